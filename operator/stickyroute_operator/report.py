"""Pulls the affinity report of every proxy: one task a proxy, so that none waits for another."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from random import Random

import aiohttp
from pydantic import ValidationError

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.control import AFFINITY_PATH
from stickyroute_operator.complaint import Complaint
from stickyroute_operator.ledger import Ledger, ScopeView, merge
from stickyroute_operator.publish import ProxyAddress

logger = logging.getLogger(__name__)

BUSY, QUIET = 2.0, 5.0
"""Seconds between two pulls: after a report that said something new, and otherwise."""
HURRIED = 1.0
"""Seconds between two pulls while leases are made of them."""
TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)

FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""What goes wrong between two processes; all else is a defect."""


class Collector:
    """The fleet's sessions, as the proxies told them last.

    `changed` is called after each report that differs from the proxy's last one.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext],
        changed: Callable[[], None],
        *,
        random: Random | None = None,
        busy: float = BUSY,
        quiet: float = QUIET,
        hurried: float = HURRIED,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = Ledger()
        self.tls = tls
        self._changed = changed
        self._random = random or Random()  # noqa: S311 - spreads pulls
        self._busy = busy
        self._quiet = quiet
        self._hurried = hurried
        self._hurries = False
        self._now = now
        self._merged: tuple[Ledger, dict[str, ScopeView]] | None = None
        self._timeout = timeout
        self._poke = asyncio.Event()
        self._tasks: dict[str, tuple[ProxyAddress, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def target(self, proxies: Mapping[str, ProxyAddress]) -> None:
        """The fleet's proxies by name. One that is gone leaves its totals in the ledger."""
        for name, (address, _) in list(self._tasks.items()):
            wanted = proxies.get(name)
            if wanted is None or (wanted.host, wanted.port) != (address.host, address.port):
                self._end(name)
        for name, address in proxies.items():
            if name not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._pull(name, address), name=f"pull {name}")
                self._tasks[name] = address, task
        self.ledger = self.ledger.keep(proxies, self._now())

    def poke(self) -> None:
        """Pull from all now: something happened that moves sessions."""
        self._poke.set()
        self._poke = asyncio.Event()

    def hurry(self, hurries: bool) -> None:
        """Pull more often from now on, or as usual again."""
        if hurries and not self._hurries:
            self.poke()
        self._hurries = hurries

    def forget(self, windows: Mapping[str, float]) -> None:
        """Forget ended proxies' sessions whose time is over; see `Ledger.forget`."""
        self.ledger = self.ledger.forget(self._now(), windows)

    def view(self) -> dict[str, ScopeView]:
        """The merged view by scope identity."""
        if self._merged is None or self._merged[0] is not self.ledger:
            self._merged = self.ledger, merge(self.ledger)
        return self._merged[1]

    async def close(self) -> None:
        for name in list(self._tasks):
            self._end(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self, name: str) -> None:
        _, task = self._tasks.pop(name)
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _pull(self, name: str, address: ProxyAddress) -> None:
        complaint = Complaint(logger, f"no affinity report of proxy {name}", FAILURES)
        async with aiohttp.ClientSession(
            timeout=self._timeout, connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=60)
        ) as session:
            while True:
                poke = self._poke
                pause = self._quiet
                try:
                    report = await self._report(session, address)
                except Exception as error:  # noqa: BLE001 - told; else its sessions would count no more
                    complaint.failed(error)
                else:
                    complaint.over()
                    if report is not None and self._take(name, report):
                        pause = self._busy
                if self._hurries:
                    pause = min(pause, self._hurried)
                await _until(poke, pause * (0.9 + self._random.random() / 5))

    def _take(self, name: str, report: AffinityReport) -> bool:
        report = report.model_copy(update={"proxy": name})
        if self.ledger.running.get(name) == report:
            return False
        self.ledger = self.ledger.add(report, self._now())
        self._changed()
        return True

    async def _report(self, session: aiohttp.ClientSession, address: ProxyAddress) -> AffinityReport | None:
        """None: the proxy serves nothing yet. ValueError: it answered something else."""
        async with session.get(address.url(AFFINITY_PATH), ssl=self.tls()) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            content = await answer.read()
        try:
            return AffinityReport.model_validate_json(content)
        except ValidationError:
            raise ValueError("its answer is no affinity report") from None


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
