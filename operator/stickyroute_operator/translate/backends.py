"""Services and their EndpointSlices to endpoint sets."""

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from stickyroute_api.reasons import ConditionReason, EndpointState
from stickyroute_api.snapshot import Endpoint
from stickyroute_operator.objects import EndpointSlice, Key, Service, ServicePort, SliceEndpoint

_OTHER_PROTOCOLS = frozenset(
    {"https", "wss", "tls", "grpc", "grpcs", "h2", "h2c", "http2", "kubernetes.io/h2c", "kubernetes.io/wss"}
)
_METADATA = frozenset({ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254")})
"""Clouds' metadata services outside the link-local ranges."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a reference, or a part of what it names, is not used."""

    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """One Service port, resolved."""

    key: str | None
    """The endpoint set's name, `namespace/service:port`; None: the reference names nothing usable."""
    endpoints: tuple[Endpoint, ...] = ()
    trouble: Trouble | None = None
    """May stand beside a usable set: part of it was refused."""


Resolver = Callable[[str, str, int | str], Resolved]
"""Resolves a namespace, a Service name, and a port name or number."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    service: Service | None
    slices: tuple[EndpointSlice, ...]
    known: frozenset[str] | None
    allow_loopback: bool

    def same(self, other: "_Inputs") -> bool:
        return (
            self.service is other.service
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
    _before: dict[tuple[str, str, int | str], tuple[_Inputs, Resolved]] = field(default_factory=dict)
    _resolved: dict[tuple[str, str, int | str], tuple[_Inputs, Resolved]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, services: Mapping[Key, Service], slices: Mapping[Key, EndpointSlice], previous: Self | None
    ) -> Self:
        grouped: dict[Key, list[EndpointSlice]] = defaultdict(list)
        for piece in slices.values():
            if piece.service:
                grouped[piece.namespace, piece.service].append(piece)
        return cls(
            services,
            {key: tuple(sorted(pieces, key=lambda piece: piece.name)) for key, pieces in grouped.items()},
            previous._resolved if previous else {},  # noqa: SLF001 - one of ours
        )

    def resolver(
        self, *, acknowledged: Mapping[str, frozenset[str]] | None, allow_loopback: bool
    ) -> Resolver:
        """Resolves each reference once, from the translation before where its inputs are the same objects."""

        def resolve(namespace: str, service: str, port: int | str) -> Resolved:
            reference = (namespace, service, port)
            done = self._resolved.get(reference)
            if done is not None:
                return done[1]
            found = self.services.get((namespace, service))
            entry = _port(found, port) if found is not None else None
            known = None
            if acknowledged is not None and entry is not None:
                known = acknowledged.get(_set_key(namespace, service, entry), frozenset())
            inputs = _Inputs(found, self.slices.get((namespace, service), ()), known, allow_loopback)
            old = self._before.get(reference)
            if old is not None and old[0].same(inputs):
                resolved = old[1]
            else:
                resolved = _resolve(namespace, service, port, inputs)
                if old is not None and old[1] == resolved:
                    resolved = old[1]
            self._resolved[reference] = inputs, resolved
            return resolved

        return resolve


def _set_key(namespace: str, service: str, port: ServicePort) -> str:
    return f"{namespace}/{service}:{port.port}"


def _port(service: Service, wanted: int | str) -> ServicePort | None:
    for port in service.ports:
        if wanted in (port.port, port.name) or (isinstance(wanted, str) and wanted == str(port.port)):
            return port
    return None


def _resolve(namespace: str, name: str, wanted: int | str, inputs: _Inputs) -> Resolved:
    service = inputs.service
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
    port = _port(service, wanted)
    if port is None:
        offered = ", ".join(
            f"{port.name} ({port.port})" if port.name else str(port.port) for port in service.ports
        )
        return _unusable(
            ConditionReason.PORT_NOT_FOUND,
            f"Service {namespace}/{name} has no port {wanted}; it offers {offered or 'none'}",
        )
    if port.protocol != "TCP" or port.app_protocol.lower() in _OTHER_PROTOCOLS:
        protocol = port.app_protocol or port.protocol
        return _unusable(
            ConditionReason.UNSUPPORTED_PROTOCOL,
            f"port {wanted} of Service {namespace}/{name} speaks {protocol}; "
            "only plain HTTP/1.1 backends are served: offer such a port, or correct appProtocol",
        )
    key = _set_key(namespace, name, port)
    endpoints, refused = _merge(port, inputs)
    trouble = None
    if refused:
        shown = ", ".join(refused[:3]) + (", …" if len(refused) > 3 else "")
        trouble = Trouble(
            ConditionReason.REF_NOT_PERMITTED,
            f"Service {namespace}/{name} has endpoints that are never connected to ({shown}): "
            "loopback, link-local, multicast and metadata addresses and names are refused; remove them",
        )
    return Resolved(key, endpoints, trouble)


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
