"""Services and their EndpointSlices to endpoint sets."""

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from stickyroute_api.reasons import ConditionReason, EndpointState
from stickyroute_api.snapshot import BackendTls, Endpoint
from stickyroute_operator.objects import EndpointSlice, Key, Service, ServicePort, SliceEndpoint
from stickyroute_operator.translate.form import BackendTlsUse, BackendUse
from stickyroute_operator.translate.referents import Referents, Unusable
from stickyroute_operator.translate.verdicts import Trouble

_TLS_PROTOCOLS = frozenset({"https", "wss", "kubernetes.io/wss"})
"""Values of appProtocol (KEP-3726 and IANA's names) that mean HTTP/1.1 over TLS."""
_OTHER_PROTOCOLS = frozenset({"tls", "grpc", "grpcs", "h2", "h2c", "http2", "kubernetes.io/h2c"})
_METADATA = frozenset({ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254")})
"""Clouds' metadata services outside the link-local ranges."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """One Service port, resolved."""

    key: str | None
    """The endpoint set's name in the snapshot; None: the reference names nothing usable."""
    endpoints: tuple[Endpoint, ...] = ()
    tls: BackendTls | None = None
    """None: spoken to in the clear."""
    trouble: Trouble | None = None
    """May stand beside a usable set: part of it was refused."""


Resolver = Callable[[str, BackendUse], Resolved]
"""Resolves what a rule of a namespace names."""
_Reference = tuple[str, str, int | str, BackendTlsUse | None]
"""Namespace, Service, port, and how its certificates are checked."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    service: Service | None
    slices: tuple[EndpointSlice, ...]
    tls: BackendTls | Unusable | None
    key: str
    known: frozenset[str] | None
    allow_loopback: bool

    def same(self, other: "_Inputs") -> bool:
        return (
            self.service is other.service
            and self.tls == other.tls
            and self.known == other.known
            and self.allow_loopback == other.allow_loopback
            and len(self.slices) == len(other.slices)
            and all(mine is theirs for mine, theirs in zip(self.slices, other.slices, strict=True))
        )


@dataclass
class Backends:
    """All Services with their slices, and what was resolved of them."""

    services: Mapping[Key, Service]
    slices: Mapping[Key, tuple[EndpointSlice, ...]]
    """By Service."""
    referents: Referents
    _before: dict[_Reference, tuple[_Inputs, Resolved]] = field(default_factory=dict)
    _resolved: dict[_Reference, tuple[_Inputs, Resolved]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        services: Mapping[Key, Service],
        slices: Mapping[Key, EndpointSlice],
        referents: Referents,
        previous: Self | None,
    ) -> Self:
        grouped: dict[Key, list[EndpointSlice]] = defaultdict(list)
        for piece in slices.values():
            if piece.service:
                grouped[piece.namespace, piece.service].append(piece)
        return cls(
            services,
            {key: tuple(sorted(pieces, key=lambda piece: piece.name)) for key, pieces in grouped.items()},
            referents,
            previous._resolved if previous else {},  # noqa: SLF001 - one of ours
        )

    def resolver(
        self, *, acknowledged: Mapping[str, frozenset[str]] | None, allow_loopback: bool
    ) -> Resolver:
        """Resolves each reference once, from the translation before where its inputs are the same objects."""

        def resolve(namespace: str, use: BackendUse) -> Resolved:
            reference = (namespace, use.service, use.port, use.tls)
            done = self._resolved.get(reference)
            if done is not None:
                return done[1]
            found = self.services.get((namespace, use.service))
            entry = _port(found, use.port) if found is not None else None
            tls = self._tls(namespace, use, entry) if entry is not None else None
            key = _set_key(namespace, use.service, entry, tls) if entry is not None else ""
            known = None
            if acknowledged is not None and entry is not None:
                known = acknowledged.get(key, frozenset())
            slices = self.slices.get((namespace, use.service), ())
            inputs = _Inputs(found, slices, tls, key, known, allow_loopback)
            old = self._before.get(reference)
            if old is not None and old[0].same(inputs):
                resolved = old[1]
            else:
                resolved = _resolve(namespace, use, entry, inputs)
                if old is not None and old[1] == resolved:
                    resolved = old[1]
            self._resolved[reference] = inputs, resolved
            return resolved

        return resolve

    def _tls(self, namespace: str, use: BackendUse, port: ServicePort) -> BackendTls | Unusable | None:
        if port.app_protocol.lower() not in _TLS_PROTOCOLS:
            return None
        wanted = use.tls or BackendTlsUse()
        try:
            ca = "" if wanted.ca is None else self.referents.authorities(wanted.ca)
        except Unusable as error:
            return error
        return BackendTls(server_name=wanted.server_name or f"{use.service}.{namespace}.svc", ca=ca)


def _set_key(namespace: str, service: str, port: ServicePort, tls: BackendTls | Unusable | None) -> str:
    """The set's name: with TLS it tells how the endpoints are spoken to, so that no two ways are mixed."""
    key = f"{namespace}/{service}:{port.port}"
    if not isinstance(tls, BackendTls):
        return key
    return f"{key}+{hashlib.sha256(f'{tls.server_name} {tls.ca}'.encode()).hexdigest()[:8]}"


def _port(service: Service, wanted: int | str) -> ServicePort | None:
    for port in service.ports:
        if wanted in (port.port, port.name) or (isinstance(wanted, str) and wanted == str(port.port)):
            return port
    return None


def _resolve(namespace: str, use: BackendUse, port: ServicePort | None, inputs: _Inputs) -> Resolved:
    service, name = inputs.service, use.service
    if service is None:
        return _unusable(
            ConditionReason.BACKEND_NOT_FOUND,
            f"Service {namespace}/{name} does not exist; create it, or correct the name",
        )
    if service.type == "ExternalName":
        return _unusable(
            ConditionReason.REF_NOT_PERMITTED,
            f"Service {namespace}/{name} is of type ExternalName, which is not followed; "
            "name a Service that selects pods",
        )
    if port is None:
        offered = ", ".join(
            f"{port.name} ({port.port})" if port.name else str(port.port) for port in service.ports
        )
        return _unusable(
            ConditionReason.PORT_NOT_FOUND,
            f"Service {namespace}/{name} has no port {use.port}; it offers {offered or 'none'}",
        )
    if port.protocol != "TCP" or port.app_protocol.lower() in _OTHER_PROTOCOLS:
        protocol = port.app_protocol or port.protocol
        return _unusable(
            ConditionReason.UNSUPPORTED_PROTOCOL,
            f"port {use.port} of Service {namespace}/{name} speaks {protocol}; "
            "only HTTP/1.1 backends are served, plain or over TLS: offer such a port, or correct appProtocol",
        )
    if isinstance(inputs.tls, Unusable):
        return _unusable(
            ConditionReason.INVALID_CA_CERTIFICATE_REF,
            f"tls.caRef: {inputs.tls}; until then the backend is not used",
        )
    if use.tls is not None and inputs.tls is None:
        return _unusable(
            ConditionReason.UNSUPPORTED_PROTOCOL,
            f"tls is given, but port {use.port} of Service {namespace}/{name} has no appProtocol of TLS; "
            "set the port's appProtocol to https, or remove tls",
        )
    endpoints, refused = _merge(port, inputs)
    trouble = None
    if refused:
        shown = ", ".join(refused[:3]) + (", …" if len(refused) > 3 else "")
        trouble = Trouble(
            ConditionReason.REF_NOT_PERMITTED,
            f"Service {namespace}/{name} has endpoints that are never connected to ({shown}): "
            "loopback, link-local, multicast and metadata addresses and names are refused; remove them",
        )
    return Resolved(inputs.key, endpoints, inputs.tls, trouble)


def _unusable(reason: ConditionReason, message: str) -> Resolved:
    return Resolved(None, trouble=Trouble(reason, message))


@dataclass(frozen=True, slots=True)
class _Candidate:
    identity: str
    entry: SliceEndpoint
    address: str
    port: int

    @property
    def rank(self) -> tuple[int, int, str, int]:
        """The least stands for the endpoint where several slices have it.

        A pod that terminates never comes back, so the slice that says so is the newer one; else the ready
        one, as kube-proxy prefers it. IPv4 before IPv6.
        """
        if self.entry.terminating and self.entry.uid:
            word = 0
        elif self.entry.ready and not self.entry.terminating:
            word = 1
        else:
            word = 2
        return word, int(":" in self.address), self.address, self.port


def _merge(port: ServicePort, inputs: _Inputs) -> tuple[tuple[Endpoint, ...], list[str]]:
    best: dict[str, _Candidate] = {}
    refused = []
    for piece in inputs.slices:
        number = next((number for name, number in piece.ports if name == port.name), None)
        if number is None:
            continue
        for entry in piece.endpoints:
            if not entry.addresses:
                continue
            address = entry.addresses[0]
            if not _permitted(address, inputs.allow_loopback):
                refused.append(address)
                continue
            candidate = _Candidate(entry.uid or _join(address, number), entry, address, number)
            rival = best.get(candidate.identity)
            if rival is None or candidate.rank < rival.rank:
                best[candidate.identity] = candidate
    chosen = sorted(best.values(), key=lambda one: (one.entry.pod, one.identity))
    return tuple(_endpoint(one, inputs.known) for one in chosen), sorted(set(refused))


def _endpoint(one: _Candidate, known: frozenset[str] | None) -> Endpoint:
    entry = one.entry
    if entry.terminating:
        state = EndpointState.DRAINING
    elif not entry.ready:
        state = EndpointState.NOT_READY
    elif known is not None and one.identity not in known:
        state = EndpointState.JOINING
    else:
        state = EndpointState.SERVING
    return Endpoint(
        id=one.identity,
        pod=entry.pod or one.identity,
        address=one.address,
        port=one.port,
        node=entry.node,
        zone=entry.zone,
        state=state,
        serving=entry.serving,
    )


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@lru_cache(maxsize=65536)
def _permitted(address: str, allow_loopback: bool) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    parsed = mapped or parsed
    if parsed.is_loopback:
        return allow_loopback
    return not (parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified or parsed in _METADATA)
