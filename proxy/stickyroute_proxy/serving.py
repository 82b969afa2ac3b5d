"""What serves clients in one process: the data plane, and how it comes to its tables."""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import uvloop

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.leases import Drain, Leases
from stickyroute_api.snapshot import Delta, Snapshot
from stickyroute_proxy import metrics
from stickyroute_proxy.affinity import drains
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.lean import collect_rarely
from stickyroute_proxy.metrics import Samples
from stickyroute_proxy.slices import in_slices
from stickyroute_proxy.table import Table, prepare
from stickyroute_proxy.wire.listener import DataPlane


class Serving:
    """A data plane and the snapshot that it serves."""

    tasks: Sequence[asyncio.Task[None]] = ()
    """Those that end only with an error: none here."""

    def __init__(self, name: str, started: float) -> None:
        """`name` is the proxy's in reports, `started` the time that its counts begin at."""
        self._name = name
        self._started = started
        self._random = random.Random()  # noqa: S311 - spreads load; tokens have their own source
        self._plane = DataPlane(random=self._random)
        self._sockets: Mapping[str, socket.socket] = {}
        self._prepared: Callable[[], Table] | None = None
        self.leases: Leases | None = None
        """The last ones."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The one in use."""
        return None if self._plane.table is None else self._plane.table.snapshot

    async def listen(self, sockets: Mapping[str, socket.socket]) -> None:
        """Accept connections on these, by the name of their option."""
        self._sockets = sockets
        for what, listener in sockets.items():
            await self._plane.accept(listener, tls=what == "https")

    def prepare(self, snapshot: Snapshot) -> None:
        """Compile it, and leave in use what is. Raises ValueError when it cannot be served."""
        self._prepared = prepare(snapshot, self._plane.table, time.time(), self._random, self._name)

    def commit(self) -> None:
        """Bring into use what was prepared last."""
        adopt, self._prepared = self._prepared, None
        assert adopt is not None  # noqa: S101 - nobody commits what was refused
        self._plane.apply(adopt())

    async def take(self, snapshot: Snapshot, _delta: Delta | None) -> None:
        """Bring it into use. Raises ValueError when it cannot be served."""
        self.prepare(snapshot)
        self.commit()

    async def obey(self, leases: Leases) -> None:
        """Go by these leases until the next."""
        self.leases = leases

    async def report(self) -> AffinityReport | None:
        """What is known of sessions; None while nothing is served."""
        if (table := self._plane.table) is None:
            return None
        tunnels = self._plane.tunnels.counts()
        return await in_slices(report(table, self._name, self._started, time.time(), tunnels))

    async def left(self) -> Mapping[str, Drain]:
        """What is left of draining pods, by `namespace/pod`."""
        if (table := self._plane.table) is None:
            return {}
        return drains.left(table, self._plane.tunnels.counts())

    async def samples(self) -> Samples:
        return metrics.read(self._plane.table, self._plane.counters, self._plane.health)

    def lacking(self) -> str:
        """What keeps it from serving: nothing."""
        return ""

    def stuck(self) -> str:
        """Which loop hangs: whoever can ask runs."""
        return ""

    async def drain(self, delay: float, grace: float) -> None:
        """Accept for `delay` seconds more, then let requests finish within `grace`; see `DataPlane.drain`."""
        await self.close()  # the event loop has duplicates: these would keep the ports open
        await self._plane.drain(delay, grace)

    async def close(self) -> None:
        for listener in self._sockets.values():
            listener.close()


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run what serves on its event loop, to its exit status."""
    collect_rarely()
    return uvloop.run(main)
