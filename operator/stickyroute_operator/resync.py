"""The periodic LIST: what the cluster holds, whatever the watches have missed."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol

from stickyroute_operator.cluster import ApiError, Resource
from stickyroute_operator.handlers import RESOURCES
from stickyroute_operator.store import PODS, Store

logger = logging.getLogger(__name__)

INTERVAL = 30.0
RETRY = 1.0
"""Seconds after a LIST that failed: the API's return is noticed soon."""
AFTER_OUTAGE = (1.0, 3.0, 6.0, 10.0, 15.0)
"""Pauses after an outage: while caches fill and watches come back, the first answers may be old."""
PODS_EVERY = 10
"""Pods, the many and large ones, are listed every so many-th time, and whenever something may be amiss."""
MISSES = 2
"""So many times in a row a LIST may bring news of a kind whose watch is silent."""


class Lists(Protocol):
    """What of the API this needs; `cluster.Cluster` has it."""

    async def list_all(
        self, resource: Resource, *, namespace: str = "", selector: str = ""
    ) -> tuple[list[dict[str, Any]], str]: ...


class Resync:
    """Lists all that is followed into the store: at the start, then every so many seconds.

    `restart_watches` is called when LISTs bring what the watches should have shown.
    """

    def __init__(
        self,
        lists: Lists,
        store: Store,
        *,
        namespaces: Collection[str] = (),
        interval: float = INTERVAL,
        heard: Counter[str] | None = None,
        restart_watches: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.interval = interval
        self.succeeded_at: float | None = None
        """When the last complete LIST began."""
        self.tried_at = clock()
        """When the last attempt ended."""
        self.error = ""
        """Why the last attempt failed; empty: it did not."""
        self.listed = asyncio.Event()
        """Whether everything was listed once."""
        self.counts: Counter[str] = Counter()
        """Attempts by result."""
        self.missed: Counter[str] = Counter()
        """By kind, the LISTs in a row that brought what a silent watch had not."""
        self._lists = lists
        self._store = store
        self._namespaces = sorted(namespaces) or [""]
        self._heard = heard if heard is not None else Counter()
        self._heard_before: Counter[str] = Counter()
        self._restart_watches = restart_watches
        self._clock = clock
        self._sleep = sleep or self._wait
        self._soon = asyncio.Event()
        self._turns = 0
        """Since Pods were listed."""

    def soon(self) -> None:
        """A watch began anew, and may have lost deletions: resync without waiting for the interval."""
        self._soon.set()

    async def run(self) -> None:
        """Resyncs until cancelled."""
        pauses: list[float] = []
        while True:
            was_away = bool(self.error)
            if not await self.once(pods=was_away or self._turns % PODS_EVERY == 0):
                await self._sleep(RETRY)
                continue
            self.listed.set()
            self._turns += 1
            if was_away:
                logger.info("the API server answers again")
                pauses = list(AFTER_OUTAGE)
            await self._sleep(pauses.pop(0) if pauses else self.interval)

    async def once(self, *, pods: bool = True) -> bool:
        """One resync; whether it succeeded. A part that was listed is used even if another failed."""
        began = self._clock()
        try:
            for kind, resource in RESOURCES.items():
                if kind == PODS and not pods:
                    continue
                news = False
                for namespace in self._namespaces:
                    items, version = await self._lists.list_all(resource, namespace=namespace)
                    news |= self._store.replace_all(kind, items, version, namespace)
                self._judge_watch(kind, news)
        except ApiError as error:
            if not self.error:
                logger.warning("resync failed: %s; trying again every %s s", error, RETRY)
            self.error = str(error)
            self.counts["failure"] += 1
            return False
        else:
            self.error = ""
            self.succeeded_at = began
            self.counts["success"] += 1
            return True
        finally:
            self.tried_at = self._clock()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._soon.wait()
        except TimeoutError:
            return
        await asyncio.sleep(RETRY)  # until the watch has told all that it listed
        self._soon.clear()
        self._turns = 0

    def _judge_watch(self, kind: str, news: bool) -> None:
        silent = self._heard[kind] == self._heard_before[kind]
        self._heard_before[kind] = self._heard[kind]
        is_first = self.succeeded_at is None
        self.missed[kind] = self.missed[kind] + 1 if news and silent and not is_first else 0
        if self.missed[kind] and self.missed[kind] % MISSES == 0:
            logger.warning("the watch on kind %s shows nothing of what LISTs show; starting all anew", kind)
            self._restart_watches()
