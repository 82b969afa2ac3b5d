"""Idle sessions that may move from pods above the mean to those below, so many a minute. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, floor

from stickyroute_api.affinity import EndpointSessions
from stickyroute_api.leases import Moves
from stickyroute_api.shares import ROTATION, Lent, apportion
from stickyroute_operator.ledger import Ledger, ScopeView

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Rebalanced:
    """A scope whose sessions may be moved."""

    per_minute: int
    groups: tuple[frozenset[str], ...]
    """The endpoints (`Endpoint.id`) of each backend that serve: sessions keep their backend."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The moves of one scope that were told of lately."""

    counts: Mapping[tuple[str, float, str], int]
    """By proxy, its start, and endpoint, so many in all."""
    lately: tuple[tuple[float, int], ...] = ()
    """When moves were told of, and how many."""

    @property
    def count(self) -> int:
        return sum(count for _, count in self.lately)


def heed(before: Moved | None, scope: str, ledger: Ledger, now: float) -> Moved:
    """With what the reports tell now."""
    counts = {
        (report.proxy, report.started, one.endpoint): one.rebalanced
        for report in ledger.running.values()
        if scope in report.scopes
        for one in report.scopes[scope].endpoints
        if one.rebalanced
    }
    if before is None:
        return Moved(counts)
    more = sum(max(0, count - before.counts.get(key, 0)) for key, count in counts.items())
    lately = tuple(one for one in before.lately if one[0] > now - MINUTE)
    return Moved(counts, (*lately, (now, more)) if more else lately)


def moves(
    scopes: Mapping[str, Rebalanced],
    moved: Mapping[str, Moved],
    ledger: Ledger,
    views: Mapping[str, ScopeView],
    *,
    lent: Mapping[str, Lent],
    sequence: int,
) -> dict[str, dict[str, dict[str, Moves]]]:
    """How many each proxy may have moved in all, by its name, scope and `Endpoint.id`."""
    found: dict[str, dict[str, dict[str, Moves]]] = {}
    for scope, rebalanced in scopes.items():
        surplus = dict(_surplus(rebalanced, views[scope])) if scope in views else {}
        rows = [
            (name, one)
            for name, report in sorted(ledger.running.items())
            if scope in report.scopes
            for one in report.scopes[scope].endpoints
        ]
        if not rows:
            continue
        left = rebalanced.per_minute - moved[scope].count
        shares = apportion(
            min(left, sum(surplus.values())),
            [lent.get(name, Lent()).held((scope, one.endpoint), _told(one)) for name, one in rows],
            [min(one.active, surplus.get(one.endpoint, 0)) for _, one in rows],
            sequence // ROTATION,
        )
        for (name, one), share in zip(rows, shares, strict=True):
            may = Moves(sessions=one.rebalanced + (share if one.endpoint in surplus else 0))
            found.setdefault(name, {}).setdefault(scope, {})[one.endpoint] = may
    return found


def _told(one: EndpointSessions) -> EndpointSessions:
    """What moved, in the words of what is placed."""
    return one.model_copy(update={"placed": one.rebalanced, "ceiling": None})


def _surplus(rebalanced: Rebalanced, view: ScopeView) -> Iterator[tuple[str, int]]:
    """By endpoint above the mean of its backend, how many it has too many, where others have too few."""
    counts = {one.endpoint: one.active for one in view.endpoints}
    for group in rebalanced.groups:
        here = {endpoint: counts.get(endpoint, 0) for endpoint in group}
        if len(here) < 2:
            continue
        mean = sum(here.values()) / len(here)
        lack = sum(max(0, floor(mean) - count) for count in here.values())
        for endpoint, count in sorted(here.items()):
            more = min(lack, count - ceil(mean))
            if more > 0:
                lack -= more
                yield endpoint, more
