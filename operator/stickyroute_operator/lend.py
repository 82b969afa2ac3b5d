"""Tells every proxy its leases, again and again while there are any: one task each, so that none waits."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import aiohttp

from stickyroute_api.control import LEASES_PATH
from stickyroute_api.leases import Leases
from stickyroute_operator.leases import Subjects, share
from stickyroute_operator.publish import FAILURES, ProxyAddress, Publisher, PushError, refusal
from stickyroute_operator.report import Collector

logger = logging.getLogger(__name__)

PACE = 1.0
"""Seconds between two leases."""
TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)


class Lender:
    """Makes leases of what is published and of what the proxies tell, and sends them."""

    def __init__(
        self,
        publisher: Publisher,
        collector: Collector,
        *,
        clock: Callable[[], float] = time.monotonic,
        pace: float = PACE,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        self.publisher = publisher
        self.timeout = timeout
        self._collector = collector
        self._clock = clock
        self._pace = pace
        self._subjects = Subjects()
        self._sequence = 0
        self._told: frozenset[str] = frozenset()
        """The drains of the last leases."""
        self._due = 0.0
        self._poked = asyncio.Event()
        self._channels: dict[str, _Channel] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def target(self, proxies: Mapping[str, ProxyAddress]) -> None:
        """The fleet's proxies by name."""
        for name, channel in list(self._channels.items()):
            wanted = proxies.get(name)
            if wanted is None or (wanted.host, wanted.port) != (channel.address.host, channel.address.port):
                self._end(name)
        for name, address in proxies.items():
            if name in self._channels:
                self._channels[name].address = address
            else:
                self._channels[name] = _Channel(self, name, address)

    def poke(self) -> None:
        """A snapshot was published, or a report has come: a drain may have begun."""
        self._poked.set()

    async def run(self) -> None:
        """Lends until cancelled."""
        while True:
            self._poked.clear()
            self.step()
            try:
                async with asyncio.timeout(self._pace):
                    await self._poked.wait()
            except TimeoutError:
                continue

    def step(self) -> None:
        """Have sent what is due: at once when a drain begins, else once in a while."""
        wanted = self.publisher.wanted
        if wanted is None:
            return
        subjects = self._subjects = Subjects.of(wanted, self._subjects)
        self._collector.hurry(bool(subjects))
        self._collector.forget(subjects.windows)
        if not subjects and not any(channel.holds for channel in self._channels.values()):
            self._told = frozenset()
            return
        proxies = {name: channel.address.ready for name, channel in self._channels.items()}
        ledger, now = self._collector.ledger, self._clock()
        known = subjects.known(ledger, proxies)
        if now < self._due and known <= self._told:
            return
        self._due, self._told = now + self._pace, known
        self._sequence += 1
        template = Leases(fleet=wanted.fleet, epoch=wanted.epoch, sequence=self._sequence)
        for name, leases in share(template, subjects, ledger, self._collector.view(), proxies).items():
            self._channels[name].offer(leases)

    async def close(self) -> None:
        """End all channels."""
        for name in list(self._channels):
            self._end(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _end(self, name: str) -> None:
        task = self._channels.pop(name).task
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class _Channel:
    """One proxy's task and its kept-alive connection."""

    def __init__(self, lender: Lender, name: str, address: ProxyAddress) -> None:
        self.address = address
        self.holds = False
        """It may hold leases that say something: it is told when there are none any more."""
        self._lender = lender
        self._name = name
        self._offered: Leases | None = None
        self._wake = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"lend {name}")

    def offer(self, leases: Leases) -> None:
        """Send these, in the place of those that are not sent yet."""
        self._offered = leases
        self._wake.set()

    async def _run(self) -> None:
        failed = ""
        async with aiohttp.ClientSession(
            timeout=self._lender.timeout, connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=60)
        ) as session:
            while True:
                await self._wake.wait()
                self._wake.clear()
                leases = self._offered
                if leases is None or (leases.empty and not self.holds):
                    continue
                self.holds = True
                try:
                    await self._put(session, leases)
                except Exception as error:  # the next leases are the next try
                    told = str(error) or type(error).__name__
                    if told != failed:
                        level = logging.INFO if isinstance(error, FAILURES) else logging.ERROR
                        logger.log(
                            level,
                            "proxy %s takes no leases: %s",
                            self._name,
                            told,
                            exc_info=level > logging.INFO,
                        )
                    failed = told
                else:
                    failed = ""
                    self.holds = not leases.empty

    async def _put(self, session: aiohttp.ClientSession, leases: Leases) -> None:
        async with session.put(
            self.address.url(LEASES_PATH),
            data=leases.model_dump_json().encode(),
            ssl=self._lender.publisher.tls(),
            headers={"Content-Type": "application/json"},
        ) as answer:
            content = await answer.read()
            if answer.status != 200:
                raise PushError(refusal(answer.status, content).error)
