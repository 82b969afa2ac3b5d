"""The data plane of one process: its listeners, its connections, their deadlines, and its end."""

import asyncio
import logging
import socket
from asyncio import AbstractEventLoop, Server, Task
from collections.abc import Callable, Iterable
from email.utils import formatdate
from itertools import chain
from math import inf
from random import Random, SystemRandom
from resource import RLIMIT_NOFILE, getrlimit
from time import monotonic, time
from typing import Any, Final

from stickyroute_api.settings import AccessLog as AccessLogSettings
from stickyroute_api.settings import Settings
from stickyroute_proxy.accesslog import AccessLog
from stickyroute_proxy.health.watch import Watch
from stickyroute_proxy.listen import BACKLOG
from stickyroute_proxy.placement import Placement, admit_waiting
from stickyroute_proxy.store.memory import Memory
from stickyroute_proxy.table import Endpoint, Table
from stickyroute_proxy.trust import Trust
from stickyroute_proxy.wire.admission import Admission, Refusal
from stickyroute_proxy.wire.budget import Budget
from stickyroute_proxy.wire.closing import Closing
from stickyroute_proxy.wire.connect import Connect
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.wire.downstream import Downstream
from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.handshake import Failure as HandshakeFailure
from stickyroute_proxy.wire.ids import ids
from stickyroute_proxy.wire.opening import Failure, Opening
from stickyroute_proxy.wire.overload import Overload
from stickyroute_proxy.wire.parts import Parts
from stickyroute_proxy.wire.pool import Pool
from stickyroute_proxy.wire.sparing import Sparing
from stickyroute_proxy.wire.tunnel import Tunnel
from stickyroute_proxy.wire.tunnels import Tunnels
from stickyroute_proxy.wire.upstream import Upstream

logger = logging.getLogger(__name__)

TICK: Final = 0.25
"""Seconds between two looks at the deadlines."""
REST: Final = 1.0
"""Seconds without a request after which a connection gives memory back."""
FLUSH: Final = 2.0
"""Seconds that the access log may take at the end to write what waits."""
_PARTS: Final = 397
"""In how many parts idle connections are looked at, a prime (see `Parts`): requests wait for each."""
_LOOKS: Final = 23
"""How many looks there are in a tick: each at one of these parts, and at as large a part of the active."""
_FEW: Final = 6
"""Connections that are closed or give memory back in one go: it is some 10 µs for each."""
_SECOND: Final = 4
"""Ticks."""


class DataPlane:
    """Everything the data path needs, one per process; belongs to the event loop it first listens on."""

    __slots__ = (
        "_complaints",
        "_connecting",
        "_connections",
        "_empty",
        "_idle_pools",
        "_looker",
        "_looks",
        "_next_tick",
        "_overload",
        "_servers",
        "_stdout",
        "_sweeper",
        "_ticks",
        "active",
        "admission",
        "budget",
        "clock",
        "counters",
        "date",
        "draining",
        "health",
        "kinds",
        "lingering",
        "log",
        "loop",
        "memory",
        "next_id",
        "openings",
        "random",
        "settings",
        "stopped",
        "table",
        "trust",
        "tunnels",
    )

    table: Table | None
    """What is served; None: nothing yet, 503."""
    settings: Settings
    """The fleet's."""
    trust: Trust
    """The proxies before this one whose forwarding fields are believed."""
    draining: bool
    """Every answer is its connection's last."""
    stopped: bool
    """The listeners are closed."""
    active: Parts[Downstream | Closing]
    """Connections that can have a deadline: those that closed or were not used lately are no part of it."""
    lingering: int
    """Connections that were turned away and are not closed yet."""
    next_id: Callable[[], bytes]
    """An id for a request that has none: unique in the fleet, and cheap."""
    date: bytes
    """The Date line of answers that have none (RFC 9110, section 6.6.1)."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time,
        random: Random | None = None,
        open_files: int | None = None,
        stdout: int = 1,
    ) -> None:
        """`open_files`: how many this process may have; None: what the system says.

        `stdout`: the file descriptor that the access log goes to.
        """
        self.table = None
        self.settings = Settings()
        self.trust = Trust()
        self.clock = clock
        self.random = random if random is not None else Random(SystemRandom().getrandbits(128))  # noqa: S311
        self.counters = Counters()
        self.admission = Admission(self.settings.limits, open_files or getrlimit(RLIMIT_NOFILE)[0])
        self.budget = Budget(self.settings.retry_budget)
        self.memory = Memory(clock, self.random, self.counters)
        self.health = Watch(self.random, clock)
        self.log: AccessLog | None = None
        self.lingering = 0
        self.kinds = Kinds()
        self.active = Parts(_LOOKS)
        self.tunnels = Tunnels(self.random)
        self.openings: dict[Opening, str] = {}  # with the address that each counts for
        self.draining = self.stopped = False
        self.date = b""
        self._tell_time()
        self.loop: AbstractEventLoop
        self._stdout = stdout
        self._connections: list[dict[Downstream, str]] = [{} for _ in range(_PARTS)]
        self._idle_pools: set[Pool] = set()
        self._connecting: set[Task[None]] = set()
        self._servers: list[Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._looker: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        self._ticks = self._looks = 0
        self._overload = Overload()
        self._empty: asyncio.Event | None = None
        self._complaints = Sparing()
        self.next_id = ids(SystemRandom().randbytes(8).hex().encode()).__next__

    async def listen(self, host: str, port: int, *, tls: bool = False) -> Server:
        """Serve HTTP or HTTPS there; may be called more than once. Raises OSError."""
        return await self._serve(tls=tls, host=host, port=port)

    async def accept(self, listener: socket.socket, *, tls: bool = False) -> Server:
        """Serve HTTP or HTTPS on a listening socket."""
        return await self._serve(tls=tls, sock=listener)

    async def _serve(self, *, tls: bool, **where: Any) -> Server:
        self.loop = asyncio.get_running_loop()
        server = await self.loop.create_server(lambda: self._accept(tls=tls), backlog=BACKLOG, **where)
        self._servers.append(server)
        if self._sweeper is None:
            self._next_tick = monotonic() + TICK
            self._sweeper = self.loop.call_later(TICK, self._sweep)
            self._looker = self.loop.call_later(TICK / _LOOKS, self._look)
        return server

    def _accept(self, *, tls: bool) -> Opening | Downstream:
        proxied = self.settings.proxy_protocol
        return Opening(self, proxied=proxied, tls=tls) if tls or proxied else Downstream(self)

    def apply(self, table: Table) -> None:
        """Serve by this table from the next request on; nothing new goes to the endpoints that left."""
        self.table = table
        for endpoint in table.removed:
            self.pool(endpoint).close()  # made, if need be: it tells whoever has chosen the endpoint already
        settings, trust = table.snapshot.settings, table.trust
        if settings != self.settings or trust is not self.trust:
            self._configure(settings, trust)
        notices = frozenset(
            rule.persistence.failover.notify_header.lower().replace("_", "-").encode()
            for route in table.snapshot.routes.values()
            for rule in route.rules
        )
        if notices != self.kinds.notices:
            self.kinds = Kinds(notices)
        self.health.follow(table, monotonic())
        self._settle_queues(table)

    def _configure(self, settings: Settings, trust: Trust) -> None:
        self.settings = settings
        self.trust = trust
        self.budget.take(settings.retry_budget)
        self._configure_log(settings.access_log)
        self.memory.take(settings.store)
        for part in self._connections:
            for connection in part:
                part[connection] = self._counted(connection.peer)
        for opening in self.openings:
            self.openings[opening] = self._counted(opening.peer)
        connections = (part.values() for part in self._connections)
        self.admission.take(settings.limits, chain(*connections, self.openings.values()))

    def _configure_log(self, given: AccessLogSettings) -> None:
        if given.mode == "Off":
            if self.log is not None:
                self.log.end()
                self.log = None
            return
        if self.log is None:
            self.log = AccessLog(self._stdout, self.counters, self.random)
        self.log.take(given)

    def _settle_queues(self, table: Table) -> None:
        """Those who wait at an endpoint that has left decide anew; limits may leave room to others."""
        now = self.clock()
        left = [*table.removed, *(one for one in table.endpoints() if one.queue and now >= one.keep_until)]
        for endpoint in left:
            for exchange in endpoint.queue.clear() if endpoint.queue else ():
                exchange.reconsider()
        for endpoint in table.endpoints():
            if endpoint.queue:
                admit_waiting(endpoint)
        self._wake(table)

    @staticmethod
    def _wake(table: Table) -> None:
        """Those who wait decide anew where their endpoint has come back, or is unhealthy."""
        for queue in table.returned():
            for exchange in queue.clear():
                exchange.reconsider()

    async def drain(self, delay: float, grace: float) -> None:
        """Stop: still accept for `delay` seconds, each answer the last of its connection; then close the

        listeners and idle connections, give exchanges and tunnels `grace` seconds to end, and cut the rest.
        """
        self.draining = True
        await asyncio.sleep(delay)
        self.stopped = True
        for server in self._servers:
            server.close()
        self._empty = asyncio.Event()
        for connection in self._all_connections():
            connection.close_if_idle()
        for opening in tuple(self.openings):
            opening.close_if_idle()
        if self.counters.open_connections:
            try:
                async with asyncio.timeout(grace):
                    await self._empty.wait()
            except TimeoutError:
                late: list[Downstream | Opening | Tunnel] = [
                    *self._all_connections(),
                    *self.openings,
                    *self.tunnels,
                ]
                for one in late:
                    one.abort()
                await self._empty.wait()
        for pool in tuple(self._idle_pools):
            pool.close()
        self._idle_pools.clear()
        self.memory.close()
        self._end_sweeping()
        self.health.close()
        if self.log is not None:
            await asyncio.to_thread(self.log.close, FLUSH)
            self.log = None

    def _end_sweeping(self) -> None:
        for timer in (self._sweeper, self._looker):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._looker = None

    def _all_connections(self) -> list[Downstream]:
        return [connection for part in self._connections for connection in part]

    # For the connections

    def begin_opening(self, opening: Opening) -> bool:
        """Whether it may go on, until `end_opening`; to be asked anew when its PROXY header has been read."""
        counters = self.counters
        if opening in self.openings:
            counters.open_connections -= 1
            self.admission.leave(self.openings.pop(opening))
        address = self._counted(opening.peer)
        refusal = self.admission.enter(address, counters.open_connections)
        if refusal is not None:
            counters.connections += 1
            counters.count_shed(refusal.cause)
            self._note_empty()
            return False
        self.openings[opening] = address
        counters.open_connections += 1
        return True

    def end_opening(self, opening: Opening, failure: Failure | None) -> None:
        """`failure`: why it carried no request; None: a `Downstream` takes it over."""
        counters = self.counters
        counters.open_connections -= 1
        self.admission.leave(self.openings.pop(opening))
        if failure is not None:
            counters.connections += 1
            counters.openings_failed[failure] = counters.openings_failed.get(failure, 0) + 1
            self._note_empty()

    def opened(self, connection: Downstream, peer: str) -> Refusal | None:
        """A client at this address has connected; a refusal: it is to be turned away."""
        counters = self.counters
        counters.connections += 1
        address = self._counted(peer)
        refusal = self.admission.enter(address, counters.open_connections)
        if refusal is not None:
            counters.count_shed(refusal.cause)
            return refusal
        counters.open_connections += 1
        self._connections[hash(connection) % _PARTS][connection] = address
        return None

    def _counted(self, peer: str) -> str:
        """The address by which a client's connections are limited; none: it is trusted."""
        return "" if not peer or self.trust.holds(peer) else peer

    def closed(self, connection: Downstream) -> None:
        self.counters.open_connections -= 1
        self.admission.leave(self._connections[hash(connection) % _PARTS].pop(connection))
        self.active.discard(connection)
        self._note_empty()

    def _note_empty(self) -> None:
        if self._empty is not None and not self.counters.open_connections:
            self._empty.set()

    def pool(self, endpoint: Endpoint) -> Pool:
        pool: Pool | None = endpoint.pool
        if pool is None:
            pool = endpoint.pool = Pool(self._idle_pools.add)
        return pool

    def turned_away(self) -> None:
        self.lingering -= 1

    def connect(self, endpoint: Endpoint, exchange: Placement) -> Connect:
        """Open a connection for an exchange; it is told by `connected` or `connect_failed`."""
        # The pool exists from here on: `apply` closes it when the endpoint leaves in the meantime.
        upstream = Upstream(self.pool(endpoint), self.counters)
        connect = Connect(
            self.loop,
            endpoint,
            upstream,
            exchange.connected,
            exchange.connect_failed,
            refused=self._handshake_failed,
        )
        self._connecting.add(connect.task)
        connect.task.add_done_callback(self._connecting.discard)
        return connect

    def _handshake_failed(self, endpoint: Endpoint, failure: HandshakeFailure) -> None:
        failed = self.counters.endpoint_handshakes_failed
        failed[failure.cause] = failed.get(failure.cause, 0) + 1
        if self._complaints.due(f"{endpoint.service} {failure}", monotonic()):
            logger.warning(
                "TLS with endpoint %s (%s port %d) of service %s failed: %s",
                endpoint.pod,
                endpoint.address,
                endpoint.port,
                endpoint.service,
                failure.text,
            )

    # Deadlines

    def _tell_time(self) -> None:
        self.date = b"Date: %b\r\n" % formatdate(self.clock(), usegmt=True).encode()

    def _sweep(self) -> None:
        self._sweeper = self.loop.call_later(TICK, self._sweep)
        self._tell_time()
        now = monotonic()
        self._overload.tick(now - self._next_tick)
        self._next_tick = now + TICK
        self.admission.overloaded = self._overload.present
        for opening in tuple(self.openings):
            opening.expire(now)
        self._ticks += 1
        for pool in tuple(self._idle_pools):
            pool.sweep(now)
            if not pool:
                self._idle_pools.discard(pool)
        if self.table is not None:
            self.table.sweep(self.clock())
            self.health.tick(now)
            self._wake(self.table)
        if not self._ticks % _SECOND:
            self.budget.mark(self.counters.requests)
            for tunnel in self.tunnels:
                tunnel.expire(now)
            self.tunnels.order(self.clock(), now)
        self.tunnels.end(now)

    def _look(self) -> None:
        """Look at a part of the connections."""
        self._looker = self.loop.call_later(TICK / _LOOKS, self._look)
        now = monotonic()
        self._looks += 1
        for connection in [one for one in self.active.part(self._looks) if one.due <= now]:
            connection.expire(now)
        self._look_at_idle(self._connections[self._looks % _PARTS], now)

    def _look_at_idle(self, connections: Iterable[Downstream], now: float) -> None:
        keep_alive = self.settings.timeouts.keep_alive
        oldest = now - keep_alive if keep_alive else -inf
        latest = now - REST
        late = [
            one
            for one in connections
            if one.idle_since < latest and (one.idle_since < oldest or not one.at_rest)
        ]
        if late:
            self._settle_idle(late, oldest)

    def _settle_idle(self, late: list[Downstream], oldest: float) -> None:
        """Close a few of these, or have them give memory back; the others after requests have had a turn."""
        for connection in late[:_FEW]:
            if connection.idle_since < oldest:
                connection.close_if_idle()
            else:
                connection.rest()
        if len(late) > _FEW:
            self.loop.call_soon(self._settle_idle, late[_FEW:], oldest)
