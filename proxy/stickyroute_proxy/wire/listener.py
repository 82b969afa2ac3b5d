"""The data plane of one process: its listeners, its connections, their deadlines, and its end."""

import asyncio
import logging
from asyncio import AbstractEventLoop, Server, Task
from collections.abc import Callable
from itertools import count
from random import Random, SystemRandom
from time import monotonic, time
from typing import Final

from stickyroute_api.settings import Settings
from stickyroute_proxy.exchange import Exchange
from stickyroute_proxy.table import Endpoint, Table
from stickyroute_proxy.trust import Trust
from stickyroute_proxy.wire.connect import Connect
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.wire.downstream import Downstream
from stickyroute_proxy.wire.handshake import Failure as HandshakeFailure
from stickyroute_proxy.wire.head import Kinds
from stickyroute_proxy.wire.opening import Failure, Opening
from stickyroute_proxy.wire.pool import Pool
from stickyroute_proxy.wire.sparing import Sparing
from stickyroute_proxy.wire.tunnel import Tunnel
from stickyroute_proxy.wire.upstream import Upstream

logger = logging.getLogger(__name__)

TICK: Final = 0.25
"""Seconds between two looks at the deadlines."""
HEAD_TIMEOUT: Final = 15.0
"""Seconds that a request's head may take from its first byte."""
IDLE_TIMEOUT: Final = 75.0
"""Seconds that a client's connection may wait for a request."""
BACKLOG: Final = 4096
"""Connections that the kernel holds until they are accepted."""
_ROUNDS: Final = 20
"""In how many parts idle connections are looked at, one a tick."""


class DataPlane:
    """Everything the data path needs, one per process; belongs to the event loop it first listens on."""

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
    active: set[Downstream]
    """Connections with a deadline that may be near: in a head, in an exchange, or closing."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time,
        random: Random | None = None,
        head_timeout: float = HEAD_TIMEOUT,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        self.table = None
        self.settings = Settings()
        self.trust = Trust()
        self.clock = clock
        self.random = random if random is not None else Random(SystemRandom().getrandbits(128))  # noqa: S311
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        self.counters = Counters()
        self.kinds = Kinds()
        self.active = set()
        self.tunnels: set[Tunnel] = set()
        self.openings: set[Opening] = set()
        self.draining = self.stopped = False
        self.loop: AbstractEventLoop
        self._connections: list[set[Downstream]] = [set() for _ in range(_ROUNDS)]
        self._idle_pools: set[Pool] = set()
        self._connecting: set[Task[None]] = set()
        self._servers: list[Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._empty: asyncio.Event | None = None
        self._complaints = Sparing()
        self._ids = count()
        self._id_prefix = SystemRandom().randbytes(8).hex().encode()

    async def listen(self, host: str, port: int, *, tls: bool = False) -> Server:
        """Serve HTTP or HTTPS there; may be called more than once. Raises OSError."""
        self.loop = asyncio.get_running_loop()
        server = await self.loop.create_server(lambda: self._accept(tls=tls), host, port, backlog=BACKLOG)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(TICK, self._sweep)
        return server

    def _accept(self, *, tls: bool) -> Opening | Downstream:
        proxied = self.settings.proxy_protocol
        return Opening(self, proxied=proxied, tls=tls) if tls or proxied else Downstream(self)

    def apply(self, table: Table) -> None:
        """Serve by this table from the next request on; nothing new goes to the endpoints that left."""
        self.table = table
        self.settings = table.snapshot.settings
        self.trust = table.trust
        for endpoint in table.removed:
            if endpoint.pool is not None:
                endpoint.pool.close()
        notices = frozenset(
            rule.persistence.notify_header.lower().replace("_", "-").encode()
            for route in table.snapshot.routes.values()
            for rule in route.rules
        )
        if notices != self.kinds.notices:
            self.kinds = Kinds(notices)

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
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _all_connections(self) -> list[Downstream]:
        return [connection for part in self._connections for connection in part]

    # For the connections

    def begin_opening(self, opening: Opening) -> None:
        self.openings.add(opening)
        self.counters.open_connections += 1

    def end_opening(self, opening: Opening, failure: Failure | None) -> None:
        """`failure`: why it carried no request; None: a `Downstream` takes it over."""
        counters = self.counters
        self.openings.discard(opening)
        counters.open_connections -= 1
        if failure is not None:
            counters.connections += 1
            counters.openings_failed[failure] = counters.openings_failed.get(failure, 0) + 1
            self._note_empty()

    def opened(self, connection: Downstream) -> None:
        counters = self.counters
        counters.connections += 1
        counters.open_connections += 1
        self._connections[hash(connection) % _ROUNDS].add(connection)

    def closed(self, connection: Downstream) -> None:
        self.counters.open_connections -= 1
        self._connections[hash(connection) % _ROUNDS].discard(connection)
        self.active.discard(connection)
        self._note_empty()

    def _note_empty(self) -> None:
        if self._empty is not None and not self.counters.open_connections:
            self._empty.set()

    def next_id(self) -> bytes:
        """An id for a request that has none: unique in the fleet, and cheap."""
        return b"%b%08x" % (self._id_prefix, next(self._ids))

    def pool(self, endpoint: Endpoint) -> Pool:
        pool: Pool | None = endpoint.pool
        if pool is None:
            pool = endpoint.pool = Pool(self._idle_pools.add)
        return pool

    def connect(self, endpoint: Endpoint, exchange: Exchange) -> Connect:
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

    def _sweep(self) -> None:
        self._sweeper = self.loop.call_later(TICK, self._sweep)
        now = monotonic()
        for connection in tuple(self.active):
            connection.expire(now)
        for opening in tuple(self.openings):
            opening.expire(now)
        self._ticks += 1
        self._close_idle(now)
        for pool in tuple(self._idle_pools):
            pool.sweep(now)
            if not pool:
                self._idle_pools.discard(pool)
        if not self._ticks % 4:
            for tunnel in tuple(self.tunnels):
                tunnel.expire(now)
            if self.table is not None:
                self.table.sweep(self.clock())

    def _close_idle(self, now: float) -> None:
        oldest = now - self.idle_timeout
        for connection in tuple(self._connections[self._ticks % _ROUNDS]):
            if connection.idle_since < oldest and connection not in self.active:
                connection.close_if_idle()
