"""Tells every proxy its leases, again and again while there are any: one task each, so that none waits."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import aiohttp

from stickyroute_api.control import LEASES_PATH
from stickyroute_api.leases import Leases
from stickyroute_api.shares import Lent
from stickyroute_operator.complaint import Complaint
from stickyroute_operator.leases import Subjects, share
from stickyroute_operator.publish import FAILURES, ProxyAddress, Publisher, PushError, refusal
from stickyroute_operator.rebalance import Moved, heed
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
        self._lent: dict[str, Lent] = {}
        """By proxy, what it was sent since it reported that it may place."""
        self._lent_moves: dict[str, Lent] = {}
        """The same, that it may move."""
        self._moved: dict[str, Moved] = {}
        """By scope."""
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
        told = {name: ledger.running[name].leased for name in proxies if name in ledger.running}
        lent = {name: self._lent.get(name, Lent()).heard(told.get(name, (0, 0))) for name in proxies}
        lent_moves = {
            name: self._lent_moves.get(name, Lent()).since(told.get(name, (0, 0))) for name in proxies
        }
        self._moved = {
            scope: heed(self._moved.get(scope), scope, ledger, now) for scope in subjects.rebalanced
        }
        found = share(
            template,
            subjects,
            ledger,
            self._collector.view(),
            proxies,
            lent=lent,
            moved=self._moved,
            lent_moves=lent_moves,
        )
        for name, leases in found.items():
            lent[name] = lent[name].add(leases)
            lent_moves[name] = lent_moves[name].add_moves(leases)
            self._channels[name].offer(leases)
        self._lent, self._lent_moves = lent, lent_moves

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
        complaint = Complaint(logger, f"proxy {self._name} takes no leases", FAILURES)
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
                except Exception as error:  # noqa: BLE001 - told by the complaint; the next leases are a new try
                    complaint.failed(error)
                else:
                    complaint.over()
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
