"""What is worth an Event: the differences between two statuses of a route. Pure.

One Event object stands for a route and a reason, and is counted up: `writer` keeps it, `serve` prints it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stickyroute_api.reasons import (
    BindingReason,
    ConditionReason,
    ConditionType,
    EndpointState,
    EventReason,
)
from stickyroute_api.status import Condition, EndpointStatus, Move, Sessions, StickyRouteStatus
from stickyroute_operator.clash import uncounted
from stickyroute_operator.status import find, is_same_move


@dataclass(frozen=True, slots=True)
class Event:
    reason: EventReason
    message: str
    type: Literal["Normal", "Warning"]
    times: int = 1
    """How often it happened; 0: only the message of the last one is set right."""


_REFERENCES = {
    ConditionReason.BACKEND_NOT_FOUND: EventReason.BACKEND_NOT_FOUND,
    ConditionReason.PORT_NOT_FOUND: EventReason.PORT_NOT_FOUND,
    ConditionReason.REF_NOT_PERMITTED: EventReason.REF_NOT_PERMITTED,
    ConditionReason.UNSUPPORTED_PROTOCOL: EventReason.UNSUPPORTED_PROTOCOL,
    ConditionReason.INVALID_CERTIFICATE_REF: EventReason.INVALID_CERTIFICATE_REF,
    ConditionReason.INVALID_CA_CERTIFICATE_REF: EventReason.INVALID_CA_CERTIFICATE_REF,
    ConditionReason.CERTIFICATE_EXPIRING: EventReason.CERTIFICATE_EXPIRING,
    ConditionReason.CERTIFICATE_MISMATCH: EventReason.CERTIFICATE_MISMATCH,
}
"""What is wrong, or soon will be, with what a route names."""
_NOWHERE = {
    ConditionReason.NO_ENDPOINTS: EventReason.NO_ENDPOINTS,
    ConditionReason.AT_LIMIT: EventReason.AT_LIMIT,
}
"""Why new sessions find no pod."""
_FAILURES = {
    EndpointState.EJECTED: EventReason.POD_EJECTED,
    EndpointState.UNHEALTHY: EventReason.POD_UNHEALTHY,
}


def events(old: StickyRouteStatus | None, new: StickyRouteStatus) -> tuple[Event, ...]:
    """What happened between two statuses; `old` is None for a route seen for the first time.

    Sessions' ends are told by `ended`: two sums alone do not say what happened between them.
    """
    return tuple(_changes(old, new))


def _changes(old: StickyRouteStatus | None, new: StickyRouteStatus) -> Iterator[Event]:
    accepted, resolved, programmed, ready = (
        _News(find(old, kind), find(new, kind))
        for kind in (
            ConditionType.ACCEPTED,
            ConditionType.RESOLVED_REFS,
            ConditionType.PROGRAMMED,
            ConditionType.READY,
        )
    )
    if failed := accepted.told_false():
        yield Event(EventReason.NOT_ACCEPTED, failed.message, "Warning")
    if (told := resolved.told()) and (reason := _REFERENCES.get(told.reason)):
        yield Event(reason, told.message, "Warning")
    if done := programmed.turned_true():
        yield Event(EventReason.PROGRAMMED, done.message, "Normal")
    if (failed := programmed.told_false()) and failed.reason is ConditionReason.INVALID:
        yield Event(EventReason.PROXY_REJECTED_SNAPSHOT, failed.message, "Warning")
    if (failed := ready.turned_false()) and (reason := _NOWHERE.get(failed.reason)):
        yield Event(reason, failed.message, "Warning")
    conflict, short = (
        _News(find(old, kind), find(new, kind))
        for kind in (ConditionType.COOKIE_CONFLICT, ConditionType.GRACE_PERIOD_TOO_SHORT)
    )
    if warned := conflict.told_more():
        yield Event(EventReason.COOKIE_CONFLICT, warned.message, "Warning")
    if warned := short.turned_true():
        yield Event(EventReason.GRACE_PERIOD_TOO_SHORT, warned.message, "Warning")
    yield from _of_pods(old.endpoints if old else (), new.endpoints)
    yield from _dropped(old.last_moves if old else (), new.last_moves)


@dataclass(frozen=True, slots=True)
class _News:
    """One condition, before and now."""

    old: Condition | None
    new: Condition | None

    def turned_true(self) -> Condition | None:
        return self.new if self._is("True") and not self._was("True") else None

    def turned_false(self) -> Condition | None:
        """Newly false, or false for another reason."""
        if not self._is("False"):
            return None
        return None if self._was("False") and self._reason(self.old) is self._reason(self.new) else self.new

    def told(self) -> Condition | None:
        """What is now said, if it was not said before."""
        if self.new is None or (self._reason(self.old), self._message(self.old)) == (
            self.new.reason,
            self.new.message,
        ):
            return None
        return self.new

    def told_false(self) -> Condition | None:
        """Newly false, or false with another message: the author has tried something else."""
        if not self._is("False"):
            return None
        return None if self._was("False") and self._message(self.old) == self._message(self.new) else self.new

    def told_more(self) -> Condition | None:
        """True, for a cause that was not told before; that it goes on is none."""
        if not self._is("True"):
            return None
        before, now = (set(uncounted(self._message(one)).split("; ")) for one in (self.old, self.new))
        return self.new if now - before else None

    @staticmethod
    def _reason(condition: Condition | None) -> ConditionReason | None:
        return condition.reason if condition else None

    @staticmethod
    def _message(condition: Condition | None) -> str:
        return condition.message if condition else ""

    def _is(self, status: str) -> bool:
        return self.new is not None and self.new.status == status

    def _was(self, status: str) -> bool:
        return self.old is not None and self.old.status == status


def _of_pods(old: tuple[EndpointStatus, ...], new: tuple[EndpointStatus, ...]) -> Iterator[Event]:
    """One Event for all pods that one thing has happened to."""
    states = {(one.service, one.pod, one.state) for one in old}
    restarts: dict[tuple[str, str], int] = {}
    for one in old:  # of two pods that bear a name for a while, the most
        restarts[one.service, one.pod] = max(one.restarts, restarts.get((one.service, one.pod), 0))
    happened: dict[EventReason, dict[str, str]] = {}
    for one in new:
        by = f" (found by {one.found_by} proxies)" if one.found_by else ""
        if (reason := _FAILURES.get(one.state)) and (one.service, one.pod, one.state) not in states:
            happened.setdefault(reason, {})[one.pod] = f"{one.pod} is {one.state}{by}"
        if one.restarts > restarts.get((one.service, one.pod), one.restarts):
            what = f"a container of {one.pod} began anew (restart {one.restarts}): its memory is gone"
            happened.setdefault(EventReason.CONTAINER_RESTARTED, {})[one.pod] = what
    for reason, pods in happened.items():
        yield Event(reason, "; ".join(pods.values()), "Warning", times=len(pods))


def _dropped(old: tuple[Move, ...], new: tuple[Move, ...]) -> Iterator[Event]:
    """One Event for the moves that are new or have grown: proxies tell of their sessions one by one."""
    messages, fresh = [], 0
    for move in new:
        known = next((other for other in old if is_same_move(other, move)), None)
        if known is not None and move.sessions <= known.sessions:
            continue
        messages.append(f"{_number(move.sessions)} left {move.pod}: {move.reason}")
        fresh += known is None
    if messages:
        yield Event(EventReason.BINDINGS_DROPPED, "; ".join(messages), "Normal", times=fresh)


def ends(sessions: Sessions | None) -> Counter[BindingReason]:
    """The ends without a pod that a status counts, by reason."""
    return Counter({one.reason: one.sessions for one in sessions.ended} if sessions else {})


def ended(fresh: Counter[BindingReason]) -> Event:
    """One Event for all these ends."""
    messages = (f"{_number(count)} ended: {reason}" for reason, count in sorted(fresh.items()))
    return Event(EventReason.SESSIONS_ENDED, "; ".join(messages), "Normal")


def _number(sessions: int) -> str:
    return "1 session" if sessions == 1 else f"{sessions} sessions"
