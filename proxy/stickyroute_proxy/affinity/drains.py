"""Draining pods: until when they may keep sessions, what is left of them, whether they may end. Pure.

A pod has as many endpoints as Services; it drains when all of them do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from stickyroute_api.leases import Drain
from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Snapshot
from stickyroute_proxy.affinity.report import sessions_at
from stickyroute_proxy.table import Table

SETTLE: Final = 2.0
"""Seconds from a drain's beginning in which the pod is not drained: who has just been given a token there
becomes known as a session only by coming back."""
FAREWELL: Final = 6.0
"""Seconds beyond its time in which the pod is not drained while it has WebSockets: they are being closed."""

Pods = Mapping[str, "Pod"]
"""By `namespace/pod`."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What a snapshot says of a pod."""

    draining: bool
    since: float = 0.0
    """When its drain began (Unix seconds)."""
    until: float = 0.0
    """When the drain of the last of its scopes is over."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a pod may end."""

    drained: bool
    why: str
    """For people."""
    left: Drain | None = None
    """What of it is left over the whole fleet; None: that is not known."""
    until: float | None = None
    """When its time is up; None: it is not draining."""


def pods(snapshot: Snapshot) -> Pods:
    """Every pod that a route knows."""
    longest: dict[str, float] = {}
    for route in snapshot.routes.values():
        for rule in route.rules:
            for backend in rule.backends:
                drain = rule.persistence.drain_timeout
                longest[backend.endpoints] = max(drain, longest.get(backend.endpoints, 0.0))
    found: dict[str, Pod] = {}
    for set_id, drain in longest.items():
        namespace = set_id.partition("/")[0]
        for endpoint in snapshot.endpoints.get(set_id, ()):
            name = f"{namespace}/{endpoint.pod}"
            since = endpoint.draining_since
            until = since + drain if endpoint.serving else since
            known = found.get(name)
            if endpoint.state is not EndpointState.DRAINING:
                found[name] = Pod(draining=False)
            elif known is None:
                found[name] = Pod(True, since, until)
            elif known.draining:
                found[name] = Pod(True, max(since, known.since), max(until, known.until))
    return found


def left(table: Table, tunnels: Mapping[tuple[str, str], int]) -> dict[str, Drain]:
    """What one process knows of draining pods; `tunnels` are counted by scope and `Endpoint.id`."""
    found: dict[str, Drain] = {}
    for scope in table.scopes.values():
        for endpoint in scope.endpoints:
            if endpoint.state is not EndpointState.DRAINING:
                continue
            pod = f"{endpoint.set_id.partition('/')[0]}/{endpoint.pod}"
            here = Drain(
                sessions=len(sessions_at(scope, endpoint)),
                requests=scope.requests_at(endpoint),
                tunnels=tunnels.get((scope.id, endpoint.id), 0),
                since=endpoint.draining_since,
            )
            found[pod] = _joined(found[pod], here) if pod in found else here
    return found


def _joined(one: Drain, other: Drain) -> Drain:
    return Drain(
        sessions=one.sessions + other.sessions,
        # Scopes that share a Service tell of the same ones.
        requests=max(one.requests, other.requests),
        tunnels=one.tunnels + other.tunnels,
        since=max(one.since, other.since),
    )


def greater(told: Iterable[Drain]) -> Drain | None:
    """The most that any of those who tell of one pod knows: each may know the same sessions."""
    found = tuple(told)
    if not found:
        return None
    return Drain(
        sessions=max(one.sessions for one in found),
        requests=max(one.requests for one in found),
        tunnels=max(one.tunnels for one in found),
        since=max(one.since for one in found),
    )


def answer(pod: Pod, lease: Drain | None, here: Drain | None, now: float) -> Answer:
    """Whether a pod may end.

    `lease` is what the operator told last of the whole fleet, `here` what this proxy knows, which is newer.
    """
    if not pod.draining:
        return Answer(drained=False, why="the pod is not terminating, as far as this proxy has been told")
    if lease is not None and lease.since != pod.since:
        lease = None
    total = lease and greater(one for one in (lease, here) if one is not None)
    known = total or here
    if pod.until <= now < pod.until + FAREWELL and known is not None and known.tunnels:
        return Answer(False, "its time is up, and its WebSockets are being closed", total, pod.until)
    if now >= pod.until:
        return Answer(True, "its time is up", total, pod.until)
    if total is None:
        return Answer(
            False,
            "not known yet: the operator has not told since the drain began what all proxies know",
            None,
            pod.until,
        )
    if total.sessions or total.requests:
        return Answer(False, "sessions or requests are left", total, pod.until)
    if now < pod.since + SETTLE:
        return Answer(False, "its drain has only just begun", total, pod.until)
    return Answer(True, "no session and no request is left", total, pod.until)
