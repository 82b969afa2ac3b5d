"""Services and their EndpointSlices to endpoint sets."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Self

from stickyroute_api.reasons import ConditionReason
from stickyroute_api.snapshot import BackendTls, Endpoint, HealthCheck
from stickyroute_operator.objects import EndpointSlice, Key, Service, ServicePort
from stickyroute_operator.pods import Pod
from stickyroute_operator.translate.endpoints import Known, found
from stickyroute_operator.translate.form import BackendTlsUse, BackendUse
from stickyroute_operator.translate.referents import Referents, Unusable
from stickyroute_operator.translate.verdicts import Trouble

_TLS_PROTOCOLS = frozenset({"https", "wss", "kubernetes.io/wss"})
"""Values of appProtocol (KEP-3726 and IANA's names) that mean HTTP/1.1 over TLS."""
_OTHER_PROTOCOLS = frozenset({"tls", "grpc", "grpcs", "h2", "h2c", "http2", "kubernetes.io/h2c"})


@dataclass(frozen=True, slots=True)
class Resolved:
    """One Service port, resolved."""

    key: str | None
    """The endpoint set's name in the snapshot; None: the reference names nothing usable."""
    endpoints: tuple[Endpoint, ...] = ()
    tls: BackendTls | None = None
    """None: spoken to in the clear."""
    health: HealthCheck | None = None
    """None: not checked."""
    trouble: Trouble | None = None
    """May stand beside a usable set: part of it was refused."""
    pods: tuple[Pod, ...] = ()
    """Of the endpoints, those that are known."""
    awaited: Mapping[str, float] = field(default_factory=dict)
    """By UID, the pods that endpoints wait for, and since when."""
    until: float = inf
    """Unix seconds: when the end of a drain or of patience changes it without anything else changing."""


Resolver = Callable[[str, BackendUse], Resolved]
"""Resolves what a rule of a namespace names."""
_Reference = tuple[str, str, int | str, BackendTlsUse | None, HealthCheck | None]
"""Namespace, Service, port, and how its certificates and its health are checked."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    service: Service | None
    slices: tuple[EndpointSlice, ...]
    pods: tuple[Pod | None, ...]
    tls: BackendTls | Unusable | None
    key: str
    known: Known

    def same(self, other: "_Inputs") -> bool:
        return (
            self.service is other.service
            and self.tls == other.tls
            and self.known == other.known
            and are_same(self.slices, other.slices)
            and are_same(self.pods, other.pods)
        )


def are_same(mine: tuple[object, ...], theirs: tuple[object, ...]) -> bool:
    """Whether both hold the same objects."""
    return len(mine) == len(theirs) and all(one is other for one, other in zip(mine, theirs, strict=True))


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known beside the objects, at the moment of a translation."""

    now: float = 0.0
    """Unix seconds."""
    pods: Mapping[Key, Pod] = field(default_factory=dict)
    before: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """The endpoint sets as they were published last."""
    drains: Mapping[Key, float] = field(default_factory=dict)
    """By Service, the longest time that any scope leaves bound sessions on its draining pods."""
    named: frozenset[Key] = frozenset()
    """The Services whose endpoints bindings name by what only their pods tell."""
    awaited: Mapping[str, float] | None = None
    """By UID, since when pods are awaited. None: no endpoint waits for its pod."""
    acknowledged: Mapping[str, frozenset[str]] | None = None
    allow_loopback: bool = False

    def past(self, key: str) -> tuple[Endpoint, ...]:
        """A set as it was published last, under another name where it was spoken to or checked otherwise."""
        known = self.before.get(key)
        return self._places.get(_place(key), ()) if known is None else known

    @cached_property
    def _places(self) -> Mapping[str, tuple[Endpoint, ...]]:
        return {_place(key): endpoints for key, endpoints in self.before.items()}


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

    @property
    def until(self) -> float:
        """Unix seconds: when the next end of a drain or of patience changes what is resolved."""
        return min((resolved.until for _, resolved in self._resolved.values()), default=inf)

    @property
    def awaited(self) -> dict[str, float]:
        """By UID, the pods that endpoints wait for, and since when."""
        return {
            uid: since for _, resolved in self._resolved.values() for uid, since in resolved.awaited.items()
        }

    def pods(self) -> Iterator[Key]:
        """The pods that what is resolved depends on, or will the next time."""
        for (namespace, *_), (inputs, resolved) in self._resolved.items():
            for piece in inputs.slices:
                yield from ((namespace, entry.pod) for entry in piece.endpoints)
            yield from ((namespace, endpoint.pod) for endpoint in resolved.endpoints)

    def resolver(self, moment: Moment) -> Resolver:
        """Resolves each reference once, from the translation before where its inputs are the same objects."""

        def resolve(namespace: str, use: BackendUse) -> Resolved:
            reference = (namespace, use.service, use.port, use.tls, use.health)
            done = self._resolved.get(reference)
            if done is not None:
                return done[1]
            service = self.services.get((namespace, use.service))
            entry = _port(service, use.port) if service is not None else None
            tls = self._tls(namespace, use, entry) if entry is not None else None
            key = _set_key(namespace, use, entry, tls) if entry is not None else ""
            inputs = self._inputs(namespace, use, key, tls, moment)
            old = self._before.get(reference)
            if old is not None and moment.now < old[1].until and old[0].same(inputs):
                resolved = old[1]
            else:
                resolved = _resolve(namespace, use, entry, inputs, moment.now)
                if old is not None:
                    resolved = _shared(resolved, old[1])
            self._resolved[reference] = inputs, resolved
            return resolved

        return resolve

    def _inputs(
        self, namespace: str, use: BackendUse, key: str, tls: BackendTls | Unusable | None, moment: Moment
    ) -> _Inputs:
        slices = self.slices.get((namespace, use.service), ())
        before = moment.past(key) if key else ()
        drain = moment.drains.get((namespace, use.service), 0.0)
        acknowledged = None
        if moment.acknowledged is not None and key:
            acknowledged = moment.acknowledged.get(key, frozenset())
        names = [entry.pod for piece in slices for entry in piece.endpoints]
        if drain:
            names += [one.pod for one in before]
        pods = tuple(moment.pods.get((namespace, name)) for name in names)
        awaited = None
        if moment.awaited is not None and (namespace, use.service) in moment.named:
            uids = (entry.uid for piece in slices for entry in piece.endpoints)
            awaited = {uid: moment.awaited[uid] for uid in uids if uid in moment.awaited}
        known = Known(before, drain, acknowledged, awaited, moment.allow_loopback)
        return _Inputs(self.services.get((namespace, use.service)), slices, pods, tls, key, known)

    def _tls(self, namespace: str, use: BackendUse, port: ServicePort) -> BackendTls | Unusable | None:
        if port.app_protocol.lower() not in _TLS_PROTOCOLS:
            return None
        wanted = use.tls or BackendTlsUse()
        try:
            ca = "" if wanted.ca is None else self.referents.authorities(wanted.ca)
        except Unusable as error:
            return error
        return BackendTls(server_name=wanted.server_name or f"{use.service}.{namespace}.svc", ca=ca)


def _set_key(namespace: str, use: BackendUse, port: ServicePort, tls: BackendTls | Unusable | None) -> str:
    """The set's name: it tells how the endpoints are spoken to and checked, so that no two ways are mixed."""
    key = f"{namespace}/{use.service}:{port.port}"
    if isinstance(tls, BackendTls):
        key += f"+{_digest(f'{tls.server_name} {tls.ca}')}"
    if use.health is not None:
        key += f"~{_digest(use.health.model_dump_json())}"
    return key


def _place(key: str) -> str:
    """The part of a set's name that says which Service and port it is."""
    return key.partition("~")[0].partition("+")[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _port(service: Service, wanted: int | str) -> ServicePort | None:
    """UDP and others may have the number of a TCP port, which is then meant."""
    found = [
        port
        for port in service.ports
        if wanted in (port.port, port.name) or (isinstance(wanted, str) and wanted == str(port.port))
    ]
    return next((port for port in found if port.protocol == "TCP"), found[0] if found else None)


def _shared(new: Resolved, old: Resolved) -> Resolved:
    """The new one, with what is equal taken from the old."""
    if new == old:
        return old
    return replace(new, endpoints=old.endpoints) if new.endpoints == old.endpoints else new


def _resolve(
    namespace: str, use: BackendUse, port: ServicePort | None, inputs: _Inputs, now: float
) -> Resolved:
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
    pods = {pod.uid: pod for pod in inputs.pods if pod is not None}
    endpoints, refused, awaited, until = found(port.name, inputs.slices, pods, inputs.known, now)
    trouble = None
    if refused:
        shown = ", ".join(refused[:3]) + (", …" if len(refused) > 3 else "")
        trouble = Trouble(
            ConditionReason.REF_NOT_PERMITTED,
            f"Service {namespace}/{name} has endpoints that are never connected to ({shown}): "
            "loopback, link-local, multicast and metadata addresses and names are refused; remove them",
        )
    theirs = tuple(pods[endpoint.id] for endpoint in endpoints if endpoint.id in pods)
    return Resolved(inputs.key, endpoints, inputs.tls, use.health, trouble, theirs, awaited, until)


def _unusable(reason: ConditionReason, message: str) -> Resolved:
    return Resolved(None, trouble=Trouble(reason, message))
