"""The slices of one Service port, and their pods, to endpoints."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import NamedTuple

from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Endpoint
from stickyroute_operator.objects import EndpointSlice, SliceEndpoint
from stickyroute_operator.pods import Pod

_METADATA = frozenset({ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254")})
"""Clouds' metadata services outside the link-local ranges."""

PATIENCE = 5.0
"""Seconds that an endpoint waits for its pod: a slice may name one that is not there, or cannot be seen."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a set beside its slices and pods."""

    before: tuple[Endpoint, ...] = ()
    """As it was published last: drains keep their beginning."""
    drain: float = 0.0
    """Seconds that bound sessions may stay on a draining pod of it, in any scope."""
    acknowledged: frozenset[str] | None = None
    """The identities that every current proxy knows; others are Joining. None: no Joining."""
    awaited: Mapping[str, float] | None = None
    """By UID, since when its pods are awaited (Unix seconds). None: endpoints wait for no pod."""
    allow_loopback: bool = False


class Found(NamedTuple):
    endpoints: tuple[Endpoint, ...]
    refused: list[str]
    """Addresses that are never connected to."""
    awaited: Mapping[str, float]
    """By UID, the pods that endpoints wait for, and since when."""
    until: float
    """When the first of the endpoints that no slice lists is gone, or has waited enough; inf: none does."""


def found(
    port: str, slices: Iterable[EndpointSlice], pods: Mapping[str, Pod], known: Known, now: float
) -> Found:
    """The endpoints behind the port of that name; `pods` by UID."""
    listed, refused = _merge(port, slices, known.allow_loopback)
    before = {one.id: one for one in known.before}
    awaited = _awaited((one for one in listed if one.identity not in before), pods, known, now)
    endpoints = [
        _endpoint(one, pods.get(one.identity), before.get(one.identity), known, now)
        for one in listed
        if one.identity not in awaited
    ]
    present = {one.identity for one in listed}
    held = [
        _held(one, now)
        for one in known.before
        if known.drain
        and one.id not in present
        and one.id in pods
        and _may_keep(one, pods[one.id])
        and _permitted(one.address, known.allow_loopback)  # it may have come from a proxy
    ]
    held = [one for one in held if now < one.draining_since + known.drain]
    ends = [one.draining_since + known.drain for one in held]
    until = min((*ends, *(since + PATIENCE for since in awaited.values())), default=inf)
    # By name, as slices' own order changes with each of their updates.
    endpoints = sorted([*endpoints, *held], key=lambda one: (one.pod, one.id))
    return Found(tuple(endpoints), refused, awaited, until)


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


def _merge(
    port: str, slices: Iterable[EndpointSlice], allow_loopback: bool
) -> tuple[list[_Candidate], list[str]]:
    best: dict[str, _Candidate] = {}
    refused = []
    for candidate in _candidates(port, slices):
        if not _permitted(candidate.address, allow_loopback):
            refused.append(candidate.address)
            continue
        rival = best.get(candidate.identity)
        if rival is None or candidate.rank < rival.rank:
            best[candidate.identity] = candidate
    return list(best.values()), sorted(set(refused))


def _candidates(port: str, slices: Iterable[EndpointSlice]) -> Iterator[_Candidate]:
    for piece in slices:
        number = next((number for name, number in piece.ports if name == port), None)
        if number is None:
            continue
        for entry in piece.endpoints:
            if entry.addresses:
                address = entry.addresses[0]
                yield _Candidate(entry.uid or _join(address, number), entry, address, number)


def _awaited(
    new: Iterable[_Candidate], pods: Mapping[str, Pod], known: Known, now: float
) -> dict[str, float]:
    """Those of the new endpoints that bindings would name otherwise once their pods are seen; since when."""
    if known.awaited is None:
        return {}
    unseen = [one.identity for one in new if one.entry.uid and one.entry.pod and one.identity not in pods]
    since = {uid: known.awaited.get(uid, now) for uid in unseen}
    return {uid: began for uid, began in since.items() if now < began + PATIENCE}


def _endpoint(
    one: _Candidate, pod: Pod | None, before: Endpoint | None, known: Known, now: float
) -> Endpoint:
    entry = one.entry
    if entry.terminating:
        state = EndpointState.DRAINING
    elif not entry.ready:
        state = EndpointState.NOT_READY
    elif known.acknowledged is not None and one.identity not in known.acknowledged:
        state = EndpointState.JOINING
    else:
        state = EndpointState.SERVING
    since = 0.0
    if state is EndpointState.DRAINING:
        since = (pod.deleted if pod else 0.0) or (before.draining_since if before else 0.0) or now
    # Bindings name it so: that its pod is gone from the API, and not from its slice yet, ends none.
    named = pod or before
    return Endpoint(
        id=one.identity,
        pod=entry.pod or one.identity,
        address=one.address,
        port=one.port,
        node=entry.node,
        zone=entry.zone,
        state=state,
        serving=entry.serving,
        draining_since=since,
        stable=named.stable if named else "",
        cohort=named.cohort if named else "",
        # While a container is down the others say nothing of its age.
        started=max(pod.started if pod else 0.0, before.started if before else 0.0),
    )


def _may_keep(one: Endpoint, pod: Pod) -> bool:
    """Whether its pod lives, at that address: where it has got another, this one may be a stranger's."""
    return pod.lives and (not pod.addresses or one.address in pod.addresses)


def _held(one: Endpoint, now: float) -> Endpoint:
    """An endpoint that left its slices while its pod lives, as when a label changed: it drains.

    Whether it can serve is what was last known: that it left says nothing of it.
    """
    return one.model_copy(
        update={"state": EndpointState.DRAINING, "draining_since": one.draining_since or now}
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
