"""The status of a StickyRoute, from what the translation, the proxies and the sessions say. Pure.

Messages say what to do. Times change only when what they date changes, so that an unchanged route is never
written.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from stickyroute_api.reasons import ConditionReason, ConditionType, EndpointState
from stickyroute_api.snapshot import Version
from stickyroute_api.status import (
    MAX_ENDPOINTS,
    MAX_ENDS,
    MAX_MOVES,
    Condition,
    Ended,
    EndpointStatus,
    Fleet,
    Move,
    Sessions,
    StickyRouteStatus,
)
from stickyroute_operator.clash import clashing, uncounted
from stickyroute_operator.endpointstate import EndpointNow, present
from stickyroute_operator.ledger import ScopeView, Totals
from stickyroute_operator.reconcile import Acked, Carried
from stickyroute_operator.translate import RouteVerdict, Verdict

MAX_MESSAGE = 2000
"""Characters of a condition's message: what is longer is read by nobody."""
MAX_HOSTS, MAX_WORD = 8192, 256
"""Characters that the definition takes; a route that another version let in may have more."""
_ORDERED = frozenset({EndpointState.DISABLED, EndpointState.DRAINING})
"""States that an override can order; pods drain of themselves, too."""
_REMEDIES = {
    EndpointState.AT_LIMIT: "raise persistence.limits",
    EndpointState.UNHEALTHY: "see what the pods answer to healthCheck.active",
}
"""Beside more pods, for states that proxies find."""
SAME_MOVE = 90.0
"""Seconds within which two mentions of a pod and a reason are one move."""


@dataclass(frozen=True)
class Seen:
    """All that a route's status is made of."""

    verdict: RouteVerdict
    carried: Carried | None
    """None: nothing of it has been published."""
    proxies: tuple[Acked, ...]
    """Of the whole fleet."""
    scopes: tuple[ScopeView, ...]
    counted_since: float
    """Unix seconds."""
    counters: frozenset[object] = frozenset()
    """What the sums are of, and may have counted before the operator knew of it."""


def read(manifest: Mapping[str, Any] | None) -> StickyRouteStatus | None:
    """A status as an object has it; None when it has none that we could have written."""
    if not manifest:
        return None
    try:
        return StickyRouteStatus.model_validate(manifest)
    except ValidationError:
        return None


def write(status: StickyRouteStatus) -> dict[str, Any]:
    """The status as the API server takes it. Absent members are null, so that a merge patch removes them."""
    return status.model_dump(mode="json", by_alias=True)


def build(seen: Seen, previous: StickyRouteStatus | None, now: datetime) -> StickyRouteStatus:
    """The status of a route; `previous` is the one before, for the times that have not changed."""
    route = seen.verdict.route
    now = now.astimezone(UTC).replace(microsecond=0)
    current = [proxy for proxy in seen.proxies if proxy.ready]
    programmed = _programmed(seen, current)
    found = present(seen.verdict, seen.scopes)
    verdicts = {
        ConditionType.ACCEPTED: seen.verdict.accepted,
        ConditionType.RESOLVED_REFS: seen.verdict.resolved,
        ConditionType.PROGRAMMED: programmed,
        ConditionType.READY: _ready(seen, programmed, found),
        **_warnings(seen, now),
    }
    endpoints = _endpoints(found, previous, now)
    return StickyRouteStatus(
        observed_generation=route.generation,
        conditions=tuple(
            _condition(kind, verdict, route.generation, previous, now) for kind, verdict in verdicts.items()
        ),
        hosts=_cut(",".join(seen.verdict.hosts) or "*", MAX_HOSTS),
        persistence=_cut(seen.verdict.persistence, MAX_WORD),
        fleet=None if seen.carried is None else _fleet(seen.carried.content, current),
        endpoints_ready=_ratio(found),
        sessions=_sessions(seen),
        endpoints=endpoints[:MAX_ENDPOINTS],
        endpoints_omitted=max(0, len(endpoints) - MAX_ENDPOINTS),
        last_moves=_moves(seen.scopes, previous),
    )


def _warnings(seen: Seen, now: datetime) -> dict[ConditionType, Verdict]:
    """The conditions that are there only while they are True."""
    found = dict(seen.verdict.warnings)
    clash = clashing(seen.verdict, seen.scopes, now.timestamp())
    if clash is not None:
        known = found.get(ConditionType.COOKIE_CONFLICT)
        message = clash.message if known is None else f"{known.message}; {clash.message}"
        found[ConditionType.COOKIE_CONFLICT] = replace(clash, message=message)
    return found


def is_urgent(old: StickyRouteStatus | None, new: StickyRouteStatus) -> bool:
    """Whether more than numbers of sessions and requests differ."""
    return old is None or _without_counts(old) != _without_counts(new)


def _without_counts(status: StickyRouteStatus) -> tuple[Any, ...]:
    return (
        status.observed_generation,
        tuple(_without_numbers(condition) for condition in status.conditions),
        status.hosts,
        status.persistence,
        status.fleet,
        tuple((one.pod, one.service, _lasting(one.state), one.restarts) for one in status.endpoints),
        status.endpoints_omitted,
        status.last_moves,
    )


def _without_numbers(condition: Condition) -> tuple[str, ...]:
    """What is True tells how many pods take sessions: with limits that changes all the time."""
    said = "" if condition.status == "True" else condition.message
    if condition.type is ConditionType.COOKIE_CONFLICT:
        said = uncounted(condition.message)
    return condition.type, condition.status, condition.reason, said


def _lasting(state: EndpointState) -> EndpointState:
    return EndpointState.SERVING if state is EndpointState.AT_LIMIT else state


def _condition(
    kind: ConditionType,
    verdict: Verdict,
    generation: int,
    previous: StickyRouteStatus | None,
    now: datetime,
) -> Condition:
    status: Literal["True", "False"] = "True" if verdict.status else "False"
    old = find(previous, kind)
    return Condition(
        type=kind,
        status=status,
        reason=verdict.reason,
        message=_cut(verdict.message),
        observed_generation=generation,
        last_transition_time=old.last_transition_time if old and old.status == status else now,
    )


def find(status: StickyRouteStatus | None, kind: ConditionType) -> Condition | None:
    """A status's condition of this type."""
    return next((one for one in status.conditions if one.type is kind), None) if status else None


def _programmed(seen: Seen, current: Sequence[Acked]) -> Verdict:
    if not seen.verdict.accepted.status or seen.carried is None:
        return _not_served(seen)
    if not current:
        return Verdict(
            False,
            ConditionReason.NO_PROXIES,
            "The fleet has no ready proxy; look at its pods: "
            "kubectl get pods --all-namespaces --selector app.kubernetes.io/component=proxy",
        )
    behind = [proxy for proxy in current if _is_behind(proxy, seen.carried)]
    if not behind:
        return Verdict(True, ConditionReason.PROGRAMMED, f"{_all(len(current))} serves the route")
    refusing = [proxy for proxy in behind if proxy.is_refusal]
    first = (refusing or behind)[0]
    lack = f"{len(current) - len(behind)} of {len(current)} proxies serve the route as it is now"
    if refusing:
        return Verdict(
            False,
            ConditionReason.INVALID,
            f"{lack}; {first.name} refused it: {first.error}; give all proxies and the operator one version",
        )
    because = f": {first.error}" if first.error else ""
    return Verdict(False, ConditionReason.PENDING, f"{lack}; waiting for {first.name}{because}")


def _is_behind(proxy: Acked, carried: Carried) -> bool:
    """Whether a proxy lacks the route, or fails to take its pods as they are now.

    Pods that are merely on their way make no route unprogrammed: they change too often.
    """
    if proxy.version is None or proxy.version < carried.definition:
        return True
    return proxy.version < carried.content and proxy.error is not None


def _all(count: int) -> str:
    return "The only proxy" if count == 1 else f"Each of {count} proxies"


def _ready(seen: Seen, programmed: Verdict, found: Sequence[EndpointNow]) -> Verdict:
    if not seen.verdict.accepted.status or seen.carried is None:
        return _not_served(seen)
    if not programmed.status:
        return programmed
    if seen.verdict.resolved.reason is ConditionReason.INVALID_CERTIFICATE_REF:
        return Verdict(False, ConditionReason.INVALID_CERTIFICATE_REF, seen.verdict.resolved.message)
    if not seen.verdict.needs_endpoints:
        return Verdict(True, ConditionReason.READY, "Each rule redirects, no pod is needed")
    takers = sum(1 for one in found if one.takes)
    if takers:
        pods = "1 pod takes" if takers == 1 else f"{takers} pods take"
        return Verdict(True, ConditionReason.READY, f"{pods} new sessions")
    if any(one.state is EndpointState.EJECTED for one in found):
        return Verdict(True, ConditionReason.READY, "Ejected pods take new sessions: there is no other")
    if not seen.verdict.resolved.status and not found:
        return Verdict(
            False, ConditionReason.NO_ENDPOINTS, f"No backend can be used: {seen.verdict.resolved.message}"
        )
    full = any(one.state is EndpointState.AT_LIMIT for one in found)
    reason = ConditionReason.AT_LIMIT if full else ConditionReason.NO_ENDPOINTS
    return Verdict(False, reason, _nowhere(seen.verdict.route.namespace, found))


def _nowhere(namespace: str, found: Sequence[EndpointNow]) -> str:
    services = sorted({one.service for one in found})
    where = " ".join(services) if services else "the backends"
    states = Counter(one.state for one in found)
    readiness = f"look at the pods' readiness: kubectl --namespace {namespace} get endpointslices,pods"
    if not states.keys() - {EndpointState.NOT_READY}:
        return f"No pod of {where} is ready, so requests are answered with 503; {readiness}"
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    if EndpointState.DRAINING in states:
        told = f"At most draining pods of {where} take new sessions, while they still serve"
    else:
        told = f"No pod of {where} takes new sessions"
    remedies = ["scale out"]
    if any(one.state in _ORDERED and one.endpoint.state is not one.state for one in found):
        remedies.append("take back overrides")
    remedies += [remedy for state, remedy in _REMEDIES.items() if state in states]
    if EndpointState.NOT_READY in states:
        remedies.append(readiness)
    return f"{told}: {counts}; {', or '.join(remedies)}"


def _not_served(seen: Seen) -> Verdict:
    if seen.verdict.accepted.status:
        return Verdict(False, ConditionReason.PENDING, "Not yet published to the proxies")
    # The reason is told here too: Ready is what `kubectl get` shows.
    return Verdict(False, ConditionReason.NOT_ACCEPTED, f"Not served: {seen.verdict.accepted.message}")


def _fleet(wanted: Version, current: Sequence[Acked]) -> Fleet:
    return Fleet(
        proxies=len(current),
        current=sum(1 for proxy in current if proxy.version is not None and proxy.version >= wanted),
        revision=str(wanted),
    )


def _ratio(found: Iterable[EndpointNow]) -> str:
    """Those that take new sessions, of all but the terminating ones."""
    staying = [one for one in found if one.endpoint.state is not EndpointState.DRAINING]
    return f"{sum(1 for one in staying if one.takes)}/{len(staying)}"


def _sessions(seen: Seen) -> Sessions | None:
    if seen.carried is None:
        return None
    totals = sum((view.totals for view in seen.scopes), Totals())
    return Sessions(
        active=sum(view.active for view in seen.scopes),
        new=totals.new,
        moved=totals.moved,
        expired=totals.expired,
        rejected=totals.rejected,
        restarted=totals.restarted,
        ended=tuple(
            Ended(reason=reason, sessions=count) for reason, count in sorted(totals.ended.items()) if count
        )[:MAX_ENDS],
        counted_since=_time(seen.counted_since),
    )


def _endpoints(
    found: Iterable[EndpointNow], previous: StickyRouteStatus | None, now: datetime
) -> tuple[EndpointStatus, ...]:
    # With the state: a StatefulSet's pod may be back before its predecessor of the name has left.
    before = {(one.service, one.pod, one.state): one for one in (previous.endpoints if previous else ())}
    shown = []
    for one in found:
        old = before.get((one.service, one.endpoint.pod, one.state))
        shown.append(
            EndpointStatus(
                pod=one.endpoint.pod,
                service=one.service,
                state=one.state,
                found_by=one.found_by,
                restarts=one.restarts,
                sessions=one.sessions,
                requests=one.requests,
                since=old.since if old else now,
            )
        )
    return tuple(shown)


def _moves(scopes: Iterable[ScopeView], previous: StickyRouteStatus | None) -> tuple[Move, ...]:
    """The newest moves; those that only the status before tells of stay until newer ones push them out."""
    told = [
        Move(time=_time(one.time), pod=one.pod, reason=one.reason, sessions=one.sessions)
        for view in scopes
        for one in view.departures
        if one.sessions
    ]
    for old in previous.last_moves if previous else ():
        if not any(is_same_move(old, new) for new in told):
            told.append(old)
    return tuple(sorted(told, key=lambda move: (-move.time.timestamp(), move.pod, move.reason))[:MAX_MOVES])


def is_same_move(one: Move, other: Move) -> bool:
    """Whether two moves are one, seen at different times."""
    return (one.pod, one.reason) == (other.pod, other.reason) and abs(
        (one.time - other.time).total_seconds()
    ) <= SAME_MOVE


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _cut(text: str, limit: int = MAX_MESSAGE) -> str:
    return text if len(text) <= limit else f"{text[: limit - 2]} …"
