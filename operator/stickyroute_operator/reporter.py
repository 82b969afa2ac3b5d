"""Writes statuses and Events: only what changed, few at a time, again where it failed.

Conditions are written at once, mere numbers seldom, so that many busy routes do not flood the API server.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

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
COUNTS = 5.0
"""Seconds between two statuses that differ in numbers only."""
COUNTS_EACH = 0.05
"""The same, per route: 20 such writes a second in all."""
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
    counted: bool = True
    """All proxies have told of their sessions since the operator began."""


@dataclass
class _Entry:
    """What is known of one route's status."""

    uid: str
    written: StickyRouteStatus | None
    """As the API server has it."""
    counted: bool = False
    """Its sums are of all proxies. Those of another operator may be of more, or of fewer."""
    written_at: float = float("-inf")
    seen: Seen | None = None
    """What `wanted` was made of."""
    wanted: StickyRouteStatus | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0
    retry_at: float = 0.0


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
            )
            later = self._consider(key, self._entry(verdict.route), seen, interval, counted=fleet.counted)
            if later is not None:
                due.append(later)
            if index % 20 == 19:
                await asyncio.sleep(0)
        return min(due, default=None)

    def _consider(
        self, key: Key, entry: _Entry, seen: Seen, interval: float, *, counted: bool
    ) -> float | None:
        if seen != entry.seen or entry.wanted is None:
            entry.seen = seen
            entry.wanted = status.build(seen, entry.written, self._now())
        if entry.task is not None:
            return None
        if entry.wanted == entry.written:
            entry.counted = entry.counted or counted
            return None
        now = self._clock()
        if now < entry.retry_at:
            return entry.retry_at
        if not status.is_urgent(entry.written, entry.wanted) and now < entry.written_at + interval:
            return entry.written_at + interval
        write = self._write(key, entry, seen, entry.wanted, counted=counted)
        entry.task = asyncio.get_running_loop().create_task(write)
        return None

    async def _write(
        self, key: Key, entry: _Entry, seen: Seen, wanted: StickyRouteStatus, *, counted: bool
    ) -> None:
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
            old, entry.written, entry.written_at = entry.written, wanted, self._clock()
            entry.failures, entry.retry_at = 0, 0.0
            before, entry.counted = entry.counted, counted
            for event in events.events(old, wanted, counted=before and counted):
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
        """Until when to wait for proxies that have not answered to the last snapshot yet, or to the first."""
        version = self._reconciler.version
        if version is None:
            return None
        if self._clock() < self._reconciler.starting_until:
            return self._reconciler.starting_until
        end = self._reconciler.published_at + SETTLE
        if self._clock() >= end:
            return None
        waited_for = (proxy for proxy in self._fleet().proxies if proxy.ready and proxy.error is None)
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
