"""What the terminal shows of routes: a table of their status when it changes, a line an event. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from stickyroute_api.reasons import ConditionReason
from stickyroute_api.status import Condition, StickyRouteStatus
from stickyroute_operator.events import Event

QUIET: Final = 5.0
"""Seconds between two tables that differ in session counts only."""

HEADINGS: Final = ("ROUTE", "HOSTS", "PERSISTENCE", "ENDPOINTS", "SESSIONS", "READY")


def table(statuses: Mapping[str, StickyRouteStatus]) -> str:
    """Each route, under it its endpoints and the conditions that do not hold, with what they say to do."""
    rows = [HEADINGS, *(_row(name, status) for name, status in sorted(statuses.items()))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(rows[0], widths)]
    for (_, status), row in zip(sorted(statuses.items()), rows[1:], strict=True):
        lines += [_line(row, widths), *_endpoints(status), *_troubles(status.conditions)]
    return "\n".join(lines)


def _row(name: str, status: StickyRouteStatus) -> tuple[str, ...]:
    ready = next((condition for condition in status.conditions if condition.type == "Ready"), None)
    return (
        name,
        status.hosts,
        status.persistence,
        status.endpoints_ready,
        str(status.sessions.active) if status.sessions else "0",
        ready.status if ready else "Unknown",
    )


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _endpoints(status: StickyRouteStatus) -> list[str]:
    width = max((len(endpoint.pod) for endpoint in status.endpoints), default=0)
    lines = [
        f"  {endpoint.pod.ljust(width)}  {endpoint.state.value:8}  {count(endpoint.sessions, 'session')}"
        for endpoint in status.endpoints
    ]
    if status.endpoints_omitted:
        lines.append(f"  and {count(status.endpoints_omitted, 'more endpoint')}")
    return lines


def _troubles(conditions: Iterable[Condition]) -> list[str]:
    """What does not hold, each cause once: where a route is not accepted, the others only repeat why."""
    troubles = [condition for condition in conditions if condition.status != "True"]
    causes = [condition for condition in troubles if condition.reason is not ConditionReason.NOT_ACCEPTED]
    first: dict[str, Condition] = {}
    for condition in causes or troubles:
        first.setdefault(condition.message, condition)
    return [
        f"  {condition.type.value}={condition.status}, {condition.reason.value}: {condition.message}"
        for condition in first.values()
    ]


def count(number: int, noun: str) -> str:
    """`1 session`, `2 sessions`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def line(route: str, event: Event, now: datetime) -> str:
    """An event as one line."""
    return f"{now:%H:%M:%S}  {event.reason.value}  {route}  {event.message}"


class Board:
    """Decides when the table is worth printing again."""

    def __init__(self) -> None:
        self._shown = ""
        self._form = ""
        self._at = float("-inf")

    def update(self, statuses: Mapping[str, StickyRouteStatus], now: float) -> str | None:
        """The table when it is to be printed now: at once, or later if only sessions changed; else None."""
        text = table(statuses)
        form = table({name: _without_sessions(status) for name, status in statuses.items()})
        if text == self._shown or (form == self._form and now < self._at + QUIET):
            return None
        self._shown, self._form, self._at = text, form, now
        return text


def _without_sessions(status: StickyRouteStatus) -> StickyRouteStatus:
    endpoints = tuple(endpoint.model_copy(update={"sessions": 0}) for endpoint in status.endpoints)
    return status.model_copy(update={"sessions": None, "endpoints": endpoints})
