"""The link to the fleet's Valkey: look-ups and entries in batches, over a few connections.

Nobody waits for it longer than they like: look-ups are told when it fails, and those who asked may have
stopped waiting by then. A link that fails is left alone but for one attempt now and then, in growing pauses,
until one succeeds. What is to be kept in the meantime waits, as far as there is room.
"""

import asyncio
import logging
import ssl
from asyncio import AbstractEventLoop, Event, Task
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from random import Random
from typing import Any, Final, NamedTuple, Protocol

from stickyroute_api.settings import Store
from stickyroute_proxy.wire.counters import Counters

logger = logging.getLogger(__name__)

LANES: Final = 4
"""Connections, each with one batch under way."""
BATCH: Final = 128
"""Look-ups, and entries, that one batch takes at most."""
BATCH_SECONDS: Final = 0.25
"""How long a batch may take; longer is a failure."""
CONNECT_SECONDS: Final = 1.0
FAILURES: Final = 2
"""Batches in a row that fail until the store counts as away."""
PAUSES: Final = (0.25, 4.0)
"""Seconds between two attempts while it is away: the first, doubled up to the last."""
PROBE_SECONDS: Final = 1.0
"""How often a link that is not used is tried."""
MAX_LOOKUPS: Final = 2_000
"""How many wait at most; those beyond are told at once."""
MAX_ENTRIES: Final = 20_000
"""How many wait at most; the oldest are dropped for new ones."""

MARKER: Final = b"stickyroute:store"
"""The entry by which a store that has been emptied is told."""
PREFIX: Final = b"stickyroute:"


class Asker(Protocol):
    """Who looks keys up."""

    def found(self, values: Sequence[bytes | None]) -> None:
        """What the store holds, in the order of the keys."""

    def failed(self) -> None:
        """The store is away, or has no time for it."""


class Lookup(NamedTuple):
    keys: tuple[bytes, ...]
    asker: Asker


class Entry(NamedTuple):
    """What a key is to hold."""

    value: bytes
    """Empty: nothing, any more."""
    until: float
    """When it may be forgotten (Unix seconds)."""
    is_new: bool
    """Leave what another has written in the meantime."""


class Link:
    """One store, as one process reaches it; works from `open` to `close`."""

    reachable: bool | None
    """None: nobody has tried yet, and who looks up may wait for it."""

    def __init__(
        self,
        settings: Store,
        clock: Callable[[], float],
        random: Random,
        counters: Counters,
        emptied: Callable[[], None],
    ) -> None:
        """`emptied` is told when the store has lost what it held, or is another."""
        self._settings = settings
        self._clock = clock
        self._random = random
        self._counters = counters
        self._emptied = emptied
        self._lookups: deque[Lookup] = deque()
        self._entries: dict[bytes, Entry] = {}
        self._work = Event()
        self._broken = Event()
        self._failures = 0
        self._marker: bytes | None = None
        self._task: Task[None] | None = None
        self._connections: list[Any] = []
        self.reachable = None

    def open(self, loop: AbstractEventLoop) -> None:
        self._task = loop.create_task(self._run(), name="store")

    def close(self) -> None:
        """Tell those who wait, and leave."""
        self._lose()
        if self._task is not None:
            self._task.cancel()

    def find(self, lookup: Lookup) -> None:
        """Look keys up; the asker is told, at once or later."""
        if self.reachable is False or len(self._lookups) >= MAX_LOOKUPS:
            lookup.asker.failed()
            return
        self._lookups.append(lookup)
        self._work.set()

    def keep(self, key: bytes, entry: Entry) -> None:
        """Have an entry written when there is time."""
        if len(self._entries) >= MAX_ENTRIES and key not in self._entries:
            del self._entries[next(iter(self._entries))]
            self._counters.store_dropped += 1
        self._entries[key] = entry
        self._work.set()

    # Working

    async def _run(self) -> None:
        address = self._settings.address
        pause = PAUSES[0]
        told = ""
        try:
            while True:
                try:
                    if not self._connections:
                        make = await asyncio.to_thread(_connections, self._settings)
                        self._connections = [make() for _ in range(LANES)]
                    await self._do(self._connections[0], [], {})
                except Exception as error:  # noqa: BLE001 - whatever it is, requests go on without the store
                    self._lose()
                    if (cause := _explained(error)) != told:
                        told = cause
                        logger.warning("store %s is away: %s", address, cause)
                    await asyncio.sleep(pause * (0.5 + self._random.random() / 2))
                    pause = min(2 * pause, PAUSES[1])
                    continue
                if told:
                    logger.info("store %s is back", address)
                told, pause = "", PAUSES[0]
                self.reachable = True
                self._counters.store_reachable = 1
                await self._serve()
                self._lose()
                await asyncio.sleep(pause)
        finally:
            for connection in self._connections:
                with suppress(Exception):
                    await connection.disconnect(nowait=True)

    def _lose(self) -> None:
        self.reachable = False
        self._counters.store_reachable = 0
        lookups, self._lookups = self._lookups, deque()
        for lookup in lookups:
            lookup.asker.failed()

    async def _serve(self) -> None:
        """Work until it fails too often."""
        self._failures = 0
        self._broken.clear()
        if self._entries:
            self._work.set()
        lanes = [asyncio.create_task(self._lane(one), name="store lane") for one in self._connections]
        try:
            await self._broken.wait()
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _lane(self, connection: Any) -> None:
        while True:
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._work.wait()
            except TimeoutError:
                pass  # an empty batch tells whether the store is there, and still holds what it did
            else:
                if not self._lookups and not self._entries:
                    self._work.clear()
                    continue
            lookups = [self._lookups.popleft() for _ in range(min(BATCH, len(self._lookups)))]
            keys = [key for key, _ in zip(self._entries, range(BATCH), strict=False)]
            entries = {key: self._entries.pop(key) for key in keys}
            try:
                await self._batch(connection, lookups, entries)
            except asyncio.CancelledError:
                self._put_back(lookups, entries)
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, requests go on without the store
                self._failed(error, lookups, entries)
            else:
                self._failures = 0

    def _failed(self, error: Exception, lookups: list[Lookup], entries: dict[bytes, Entry]) -> None:
        if isinstance(error, OSError | _errors().ValkeyError):
            logger.debug("store: %s", _explained(error))
            self._put_back([], entries)
        else:
            logger.error("store: a batch is dropped", exc_info=error)
            self._counters.store_dropped += len(entries)
        for lookup in lookups:
            lookup.asker.failed()
        self._failures += 1
        if self._failures >= FAILURES:
            self._broken.set()

    def _put_back(self, lookups: list[Lookup], entries: dict[bytes, Entry]) -> None:
        self._lookups.extendleft(reversed(lookups))
        self._entries = {**entries, **self._entries}
        if self._lookups or self._entries:
            self._work.set()

    async def _batch(self, connection: Any, lookups: list[Lookup], entries: dict[bytes, Entry]) -> None:
        """One batch, once more if the connection turns out to have ended while it rested."""
        was_connected = connection.is_connected
        try:
            await self._do(connection, lookups, entries)
        except TimeoutError:
            raise
        except (OSError, _errors().ConnectionError):
            if not was_connected:
                raise
            await self._do(connection, lookups, entries)

    async def _do(self, connection: Any, lookups: list[Lookup], entries: dict[bytes, Entry]) -> None:
        """Ask and tell."""
        asked = [PREFIX + key for lookup in lookups for key in lookup.keys]
        commands: list[tuple[bytes | int, ...]] = [(b"MGET", MARKER, *asked)]
        now = self._clock()
        for key, entry in entries.items():
            if not entry.value:
                commands.append((b"DEL", PREFIX + key))
            elif (milliseconds := int((entry.until - now) * 1000)) > 0:
                only = (b"NX",) if entry.is_new else ()
                commands.append((b"SET", PREFIX + key, entry.value, b"PX", milliseconds, *only))
        try:
            if not connection.is_connected:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connection.connect()
            async with asyncio.timeout(BATCH_SECONDS):
                await connection.send_packed_command(connection.pack_commands(commands))
                marker, *values = await connection.read_response()
                for _ in commands[1:]:
                    await self._written(connection)
                if marker is None or marker != self._marker:
                    await self._mark(connection, marker)
        except BaseException:
            # Answers may be on their way that nobody awaits.
            await connection.disconnect(nowait=True)
            raise
        rest = iter(values)
        for lookup in lookups:
            lookup.asker.found([next(rest) for _ in lookup.keys])

    async def _written(self, connection: Any) -> None:
        errors = _errors()
        try:
            await connection.read_response()
        except errors.ReadOnlyError:
            raise  # what was the first of its kind is so no more: look for it anew
        except errors.ResponseError as error:
            if not self._counters.store_dropped:
                logger.warning("store %s does not keep entries: %s", self._settings.address, error)
            self._counters.store_dropped += 1

    async def _mark(self, connection: Any, marker: bytes | None) -> None:
        """The store is empty, or is not the one that was known."""
        if marker is None:
            unique = f"{self._clock()} {self._random.getrandbits(64)}"
            await connection.send_command(b"SET", MARKER, unique, b"NX")
            await self._written(connection)
            await connection.send_command(b"GET", MARKER)
            marker = await connection.read_response()
        before, self._marker = self._marker, marker
        if before is not None and before != marker:
            logger.warning("store %s has been emptied: writing what is known here", self._settings.address)
            self._emptied()


def _errors() -> Any:
    return import_module("valkey.exceptions")


def _connections(settings: Store) -> Callable[[], Any]:
    """What makes connections. Raises ValueError and OSError for settings that no connection can have."""
    # It takes 12 MB and a fifth of a second, which proxies without a store need not spend.
    client = import_module("valkey.asyncio.connection")
    host, _, port = settings.address.rpartition(":")
    host = host.strip("[]")
    given = {
        "host": host,
        "port": int(port),
        "db": settings.database,
        "username": settings.username or None,
        "password": settings.password or None,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_SECONDS,
        "lib_name": None,
        "lib_version": None,
    }
    if not settings.tls:
        return partial(client.Connection, **given)
    context = ssl.create_default_context(cadata=settings.ca or None)
    name = settings.server_name or host
    secured: Any = client.SSLConnection

    class Named(secured):  # type: ignore[misc]
        """One whose certificate names what the settings say."""

        def _connection_arguments(self) -> dict[str, Any]:
            return {"host": self.host, "port": self.port, "ssl": context, "server_hostname": name}

    return partial(Named, **given)


def _explained(error: Exception) -> str:
    """What failed. No error of the client's tells a password."""
    return "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
