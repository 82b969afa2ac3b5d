"""The watch over endpoints: runs the active checks that are due, and hears of clients' failed requests.

Each worker process of each proxy sees for itself: what one cannot reach, another may.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from stickyroute_api.snapshot import ActiveCheck, HealthCheck
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.health.judge import Judge
from stickyroute_proxy.health.probe import probe
from stickyroute_proxy.table import Table

logger = logging.getLogger(__name__)

AT_ONCE: Final = 64
"""Checks under way at one time; the others wait, and are late."""
SPREAD: Final = 0.1
"""The share of the interval by which checks are early or late, so that they do not march in step."""


class Watch:
    """Keeps the health of a table's endpoints; belongs to the event loop that ticks it."""

    def __init__(self, random: Random, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self.good = self.bad = self.ejections = 0
        """Checks by their end, and ejections, since the start."""
        self.judges: dict[str, Judge] = {}
        """By set; only sets with checks."""
        self._random = random
        self.clock = clock
        self._table: Table | None = None
        self._due: list[tuple[float, int, Endpoint]] = []
        self._scheduled: set[Endpoint] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._freshens = False
        self._numbers = count()

    def follow(self, table: Table, now: float) -> None:
        """Watch this table's endpoints from now on; `now` is on the monotonic clock."""
        self._table = table
        policies = table.snapshot.health
        if not policies and not self.judges:
            return
        for set_id in [one for one in self.judges if one not in policies or one not in table.sets]:
            left = self.judges.pop(set_id)
            self._touch(left.follow(HealthCheck(), left.endpoints))
            for endpoint in left.endpoints:
                endpoint.judge = None
        for set_id, policy in policies.items():
            found = table.sets.get(set_id)
            if found is None:
                continue
            judge = self.judges.get(set_id)
            if judge is None:
                judge = self.judges[set_id] = Judge()
            elif judge.endpoints is found.endpoints and judge.policy == policy:
                continue
            self._touch(judge.follow(policy, found.endpoints))
            for endpoint in found.endpoints:
                endpoint.judge = None if policy.passive is None else judge
                if policy.active is not None and endpoint not in self._scheduled:
                    self._scheduled.add(endpoint)
                    first = now + self._random.random() * policy.active.interval
                    heappush(self._due, (first, next(self._numbers), endpoint))

    def tick(self, now: float) -> None:
        """Begin the checks that are due; `now` is on the monotonic clock."""
        self._freshen_soon()
        due = self._due
        while due and due[0][0] <= now and len(self._running) < AT_ONCE:
            _, _, endpoint = heappop(due)
            judge = self.judges.get(endpoint.set_id)
            active = None if judge is None else judge.policy.active
            if judge is None or active is None or not judge.knows(endpoint):
                self._scheduled.discard(endpoint)
                continue
            wait = active.interval * (1 + SPREAD * (2 * self._random.random() - 1))
            heappush(due, (now + wait, next(self._numbers), endpoint))
            task = asyncio.get_running_loop().create_task(self._check(judge, endpoint, active))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def answered(self, endpoint: Endpoint, status: int) -> None:
        """An endpoint with a passive check has answered a client's request."""
        now = self.clock()
        if endpoint.judge.answered(endpoint, status, now):
            self._eject(endpoint)

    def failed(self, endpoint: Endpoint) -> None:
        """An endpoint with a passive check has failed a client's request."""
        if endpoint.judge.failed(endpoint, self.clock()):
            self._eject(endpoint)

    def close(self) -> None:
        """End all checks."""
        for task in self._running:
            task.cancel()
        self._due.clear()

    async def _check(self, judge: Judge, endpoint: Endpoint, active: ActiveCheck) -> None:
        try:
            good = await probe(endpoint, active)
        except OSError:
            return  # this process can open no more, which says nothing of the endpoint
        if good:
            self.good += 1
        else:
            self.bad += 1
        panicked = judge.panics
        changed = judge.checked(endpoint, good=good)
        for one in changed:
            if one.unhealthy:
                logger.warning("endpoint %s of service %s fails its checks", one.pod, one.service)
            else:
                logger.info("endpoint %s of service %s passes for healthy", one.pod, one.service)
        if judge.panics and not panicked:
            logger.warning(
                "checks of service %s fail at most of its endpoints: they are not believed", endpoint.service
            )
        self._touch(changed)

    def _eject(self, endpoint: Endpoint) -> None:
        self.ejections += 1
        logger.warning("endpoint %s of service %s is ejected for a while", endpoint.pod, endpoint.service)
        self._touch((endpoint,))

    def _touch(self, endpoints: Iterable[Endpoint]) -> None:
        if self._table is not None:
            self._table.touch(endpoints, self.clock())
            self._freshen_soon()

    def _freshen_soon(self) -> None:
        if self._table is not None and self._table.stale and not self._freshens:
            self._freshens = True
            asyncio.get_running_loop().call_soon(self._freshen)

    def _freshen(self) -> None:
        self._freshens = False
        if self._table is not None:
            self._table.freshen()
            self._freshen_soon()
