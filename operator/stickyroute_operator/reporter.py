"""Writes statuses and Events: only what changed, few at a time, again where it failed.

Conditions are written at once, mere numbers seldom, so that many busy routes do not flood the API server.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from stickyroute_api.reasons import BindingReason
from stickyroute_api.status import StickyRouteStatus
from stickyroute_operator import events, status
from stickyroute_operator.cluster import NOT_FOUND, ROUTES, ApiError, Resource
from stickyroute_operator.journal import Journal
from stickyroute_operator.ledger import ScopeView
from stickyroute_operator.objects import Key, RouteObject
from stickyroute_operator.reconcile import Acked, Carried, Reconciler
from stickyroute_operator.status import Seen

logger = logging.getLogger(__name__)

SETTLE = 1.0
"""Seconds that a new snapshot's acknowledgements are waited for before a status is written."""
GATHER = 0.05
"""Seconds in which further news is gathered."""
FIRST_REPORTS = 3.0
"""Seconds that an operator which begins waits for the first affinity reports before it writes a status."""
COUNTS = 5.0
"""Seconds between two statuses that differ in numbers only."""
COUNTS_EACH = 0.05
"""The same, per route: 20 such writes a second in all."""
ENDS = 60.0
"""Seconds between two Events of a route's ended sessions: busy routes have some with each status."""
WRITERS = 8
"""Statuses being written at one time."""
RETRY = (1.0, 60.0)
"""The first and the longest pause after a failed write, in seconds."""


class Patches(Protocol):
    """What of the API this needs; `cluster.Cluster` has it."""

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, part: str = ""
    ) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Fleet:
    """What the proxies tell, taken together at one moment."""

    proxies: tuple[Acked, ...] = ()
    scopes: Mapping[str, ScopeView] | None = None
    counted_since: float = 0.0
    has_told: bool = True
    """All proxies that serve have told of their sessions once."""
    counters: frozenset[object] = frozenset()
    """The processes that began before the operator did, as far as they have told of their sessions."""


@dataclass
class _Entry:
    """What is known of one route's status."""

    uid: str
    written: StickyRouteStatus | None
    """As the API server has it."""
    counters: frozenset[object] | None = None
    """`Seen.counters` of what is written; None: another operator's, who may have counted more, or less."""
    untold: Counter[BindingReason] = field(default_factory=Counter)
    """Sessions' ends that the next Event will tell."""
    told_at: float = float("-inf")
    written_at: float = float("-inf")
    seen: Seen | None = None
    """What `wanted` was made of."""
    wanted: StickyRouteStatus | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0
    retry_at: float = 0.0

    def take(self, written: StickyRouteStatus, counters: frozenset[object]) -> StickyRouteStatus | None:
        """The status before this one. Only what the same sums grew by has happened between them."""
        before = self.written
        if before is not None and self.counters is not None and counters <= self.counters:
            self.untold += events.ends(written.sessions) - events.ends(before.sessions)
        self.written, self.counters = written, counters
        return before


class Reporter:
    """Keeps the statuses of the fleet's routes in step with what is known. `now` is the wall clock."""

    def __init__(
        self,
        patches: Patches,
        journal: Journal,
        reconciler: Reconciler,
        fleet: Callable[[], Fleet],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counts: Counter[str] = Counter()
        """Status writes by result."""
        self._patches = patches
        self._journal = journal
        self._reconciler = reconciler
        self._fleet = fleet
        self._clock = clock
        self._now = now
        self._entries: dict[Key, _Entry] = {}
        self._writers = asyncio.Semaphore(WRITERS)
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something changed that statuses tell of."""
        self._poked.set()

    async def run(self) -> None:
        """Reports until cancelled."""
        due: float | None = None
        try:
            while True:
                await self._until(due)
                await asyncio.sleep(GATHER)
                self._poked.clear()
                waits_until = self._settles_at()
                due = waits_until if waits_until is not None else await self.report()
        finally:
            for entry in self._entries.values():
                if entry.task is not None:
                    entry.task.cancel()

    async def report(self) -> float | None:
        """Starts all writes that are due; when the next will be, if any is put off."""
        translation = self._reconciler.translation
        if translation is None:
            return None
        fleet = self._fleet()
        for key in self._entries.keys() - translation.verdicts.keys():
            self._forget(key)
        interval = max(COUNTS, COUNTS_EACH * len(translation.verdicts))
        due: list[float] = []
        for index, (key, verdict) in enumerate(translation.verdicts.items()):
            carried = self._reconciler.carried.get(key)
            scopes = fleet.scopes or {}
            seen = Seen(
                verdict=verdict,
                carried=carried,
                proxies=_as_it_concerns(carried, fleet.proxies),
                scopes=tuple(scopes[name] for name in verdict.scopes if name in scopes),
                counted_since=fleet.counted_since,
                counters=fleet.counters.union(verdict.scopes),
            )
            later = self._consider(key, self._entry(verdict.route), seen, interval)
            if later is not None:
                due.append(later)
            if index % 20 == 19:
                await asyncio.sleep(0)
        return min(due, default=None)

    def _consider(self, key: Key, entry: _Entry, seen: Seen, interval: float) -> float | None:
        if seen != entry.seen or entry.wanted is None:
            entry.seen = seen
            entry.wanted = status.build(seen, entry.written, self._now())
        if entry.task is not None:
            return None
        now = self._clock()
        due: list[float] = []
        if entry.wanted == entry.written:
            entry.counters = seen.counters
        else:
            waits_until = entry.retry_at
            if not status.is_urgent(entry.written, entry.wanted):
                waits_until = max(waits_until, entry.written_at + interval)
            if now >= waits_until:
                self._begin(entry, self._write(key, entry, seen, entry.wanted))
                return None
            due.append(waits_until)
        if entry.untold:
            if now >= entry.told_at + ENDS:
                self._begin(entry, self._tell(entry, seen))
                return None
            due.append(entry.told_at + ENDS)
        return min(due, default=None)

    @staticmethod
    def _begin(entry: _Entry, work: Coroutine[Any, Any, None]) -> None:
        entry.task = asyncio.get_running_loop().create_task(work)

    async def _tell(self, entry: _Entry, seen: Seen) -> None:
        event, entry.untold, entry.told_at = events.ended(entry.untold), Counter(), self._clock()
        try:
            async with self._writers:
                await self._journal.write(seen.verdict.route, event)
        finally:
            entry.task = None
            self.poke()

    async def _write(self, key: Key, entry: _Entry, seen: Seen, wanted: StickyRouteStatus) -> None:
        try:
            async with self._writers:
                # The uid makes the write fail when another object has taken the name.
                body = {"metadata": {"uid": entry.uid}, "status": status.write(wanted)}
                await self._patches.patch(ROUTES, *key, body, part="status")
        except ApiError as error:
            self.counts["failure"] += 1
            self._put_off(key, entry, error)
        else:
            self.counts["success"] += 1
            old, entry.written_at = entry.take(wanted, seen.counters), self._clock()
            entry.failures, entry.retry_at = 0, 0.0
            for event in events.events(old, wanted):
                await self._journal.write(seen.verdict.route, event)
        finally:
            entry.task = None
            self.poke()

    def _put_off(self, key: Key, entry: _Entry, error: ApiError) -> None:
        first, longest = RETRY
        pause = min(first * 2**entry.failures, longest)
        entry.failures = min(entry.failures + 1, 10)
        entry.retry_at = self._clock() + pause
        if error.status != NOT_FOUND:  # else it was deleted, and the watch will tell
            logger.warning("status of StickyRoute %s/%s: %s; trying again in %g s", *key, error, pause)

    def _entry(self, route: RouteObject) -> _Entry:
        entry = self._entries.get(route.key)
        if entry is None or entry.uid != route.uid:
            self._forget(route.key)
            entry = self._entries[route.key] = _Entry(route.uid, status.read(route.status))
        return entry

    def _forget(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    def _settles_at(self) -> float | None:
        """Until when to wait for proxies that have not answered to the last snapshot yet, or to the first.

        An operator that begins waits for their sessions and findings too, or it would take back what
        another wrote.
        """
        version = self._reconciler.version
        if version is None:
            return None
        if self._clock() < self._reconciler.starting_until:
            return self._reconciler.starting_until
        fleet = self._fleet()
        serving = [proxy for proxy in fleet.proxies if proxy.ready]
        end = self._reconciler.starting_until + FIRST_REPORTS
        if serving and not fleet.has_told and self._clock() < end:
            return end
        end = self._reconciler.published_at + SETTLE
        if self._clock() >= end:
            return None
        waited_for = (proxy for proxy in serving if proxy.error is None)
        if any(proxy.version is None or proxy.version < version for proxy in waited_for):
            return end
        return None

    async def _until(self, due: float | None) -> None:
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                await self._poked.wait()
        except TimeoutError:
            return


def _as_it_concerns(carried: Carried | None, proxies: tuple[Acked, ...]) -> tuple[Acked, ...]:
    """The proxies without what says nothing new of this route: most snapshots change others."""
    if carried is None:
        return ()
    concerned = []
    for proxy in proxies:
        if not proxy.ready:
            continue
        if proxy.version is not None and proxy.version >= carried.content:
            concerned.append(replace(proxy, version=carried.content, error=None, is_refusal=False))
        elif proxy.version is None or proxy.version < carried.definition:
            concerned.append(proxy)
        else:
            concerned.append(replace(proxy, version=carried.definition))
    return tuple(concerned)
