"""The data plane of one process: its listeners, its connections, their deadlines, and its end."""

import asyncio
import socket
from asyncio import AbstractEventLoop, Server, Task
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import count
from random import Random, SystemRandom
from time import monotonic, time
from typing import Any, Final

from stickyroute_api.settings import Settings
from stickyroute_proxy.exchange import Exchange
from stickyroute_proxy.table import Endpoint, Table
from stickyroute_proxy.wire.connect import Connect
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.wire.downstream import Downstream
from stickyroute_proxy.wire.head import Kinds
from stickyroute_proxy.wire.pool import Pool
from stickyroute_proxy.wire.tunnel import Tunnel
from stickyroute_proxy.wire.upstream import Upstream

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
        self.clock = clock
        self.random = random if random is not None else Random(SystemRandom().getrandbits(128))  # noqa: S311
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        self.counters = Counters()
        self.kinds = Kinds()
        self.active = set()
        self.tunnels: set[Tunnel] = set()
        self.draining = self.stopped = False
        self.loop: AbstractEventLoop
        self._settings = Settings()
        self._trusted: tuple[IPv4Network | IPv6Network, ...] = ()
        self._connections: list[set[Downstream]] = [set() for _ in range(_ROUNDS)]
        self._idle_pools: set[Pool] = set()
        self._connecting: set[Task[None]] = set()
        self._servers: list[Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._empty: asyncio.Event | None = None
        self._ids = count()
        self._id_prefix = SystemRandom().randbytes(8).hex().encode()

    async def listen(self, host: str, port: int) -> Server:
        """Serve HTTP there; may be called more than once. Raises OSError."""
        return await self._serve(host=host, port=port)

    async def accept(self, listener: socket.socket) -> Server:
        """Serve HTTP on a listening socket."""
        return await self._serve(sock=listener)

    async def _serve(self, **where: Any) -> Server:
        self.loop = asyncio.get_running_loop()
        server = await self.loop.create_server(lambda: Downstream(self), backlog=BACKLOG, **where)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(TICK, self._sweep)
        return server

    def apply(self, table: Table) -> None:
        """Serve by this table from the next request on; nothing new goes to the endpoints that left."""
        self.table = table
        for endpoint in table.removed:
            if endpoint.pool is not None:
                endpoint.pool.close()
        settings = table.snapshot.settings
        if settings != self._settings:
            self._settings = settings
            self._trusted = tuple(ip_network(cidr, strict=False) for cidr in settings.trusted_proxies)
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
        if self.counters.open_connections:
            try:
                async with asyncio.timeout(grace):
                    await self._empty.wait()
            except TimeoutError:
                for connection in self._all_connections():
                    connection.abort()
                for tunnel in tuple(self.tunnels):
                    tunnel.abort()
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

    def opened(self, connection: Downstream) -> None:
        counters = self.counters
        counters.connections += 1
        counters.open_connections += 1
        self._connections[hash(connection) % _ROUNDS].add(connection)

    def closed(self, connection: Downstream) -> None:
        self.counters.open_connections -= 1
        self._connections[hash(connection) % _ROUNDS].discard(connection)
        self.active.discard(connection)
        if self._empty is not None and not self.counters.open_connections:
            self._empty.set()

    def trusts(self, peer: str) -> bool:
        """Whether the forwarding fields of a client at this address are believed."""
        return bool(self._trusted) and any(ip_address(peer) in network for network in self._trusted)

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
        connect = Connect(self.loop, endpoint, upstream, exchange.connected, exchange.connect_failed)
        self._connecting.add(connect.task)
        connect.task.add_done_callback(self._connecting.discard)
        return connect

    # Deadlines

    def _sweep(self) -> None:
        self._sweeper = self.loop.call_later(TICK, self._sweep)
        now = monotonic()
        for connection in tuple(self.active):
            connection.expire(now)
        oldest = now - self.idle_timeout
        self._ticks += 1
        for connection in tuple(self._connections[self._ticks % _ROUNDS]):
            if connection.idle_since < oldest and connection not in self.active:
                connection.close_if_idle()
        for pool in tuple(self._idle_pools):
            pool.sweep(now)
            if not pool:
                self._idle_pools.discard(pool)
        if not self._ticks % 4:
            for tunnel in tuple(self.tunnels):
                tunnel.expire(now)
            if self.table is not None:
                self.table.sweep(self.clock())
