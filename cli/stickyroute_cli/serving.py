"""`serve`: a folder of manifests behind the real proxy, followed as it changes, told on the terminal."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

import watchfiles

from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import TokenKeys
from stickyroute_cli.address import Address, explain_listen
from stickyroute_cli.adminport import AdminPort
from stickyroute_cli.board import Board, line
from stickyroute_cli.checks import CHECKS, judged
from stickyroute_cli.embedded import NAME, Embedded
from stickyroute_cli.manifests import KINDS, STAYS, Contents, Folder, load
from stickyroute_cli.release import release
from stickyroute_cli.terminal import InputError, complain, say
from stickyroute_proxy.wire.listener import DataPlane

LOOK_AGAIN_MS = 2000
"""How often the folder is read when no change is reported: not every file system reports."""
TICK = 0.5
"""Seconds between two looks at sessions."""
GRACE = 2.0
"""Seconds that requests in flight get at the end."""


@dataclass(frozen=True, kw_only=True)
class Options:
    folder: Path
    http: Address
    https: Address | None = None
    admin: Address | None = None
    class_name: str = "stickyroute"
    keys: TokenKeys
    settings: Settings = field(default_factory=Settings)


class Server:
    """One run of `serve`."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        random = Random()  # noqa: S311 - spreads load; tokens have their own source
        self._plane = DataPlane(random=random)
        self._embedded = Embedded(
            self._plane,
            class_name=options.class_name,
            keys=options.keys,
            random=random,
            started=clock(),
            settings=options.settings,
        )
        self._folder = Folder(CHECKS, judged)
        self._told = Told()
        self._board = Board()
        self._admin: AdminPort | None = None
        self._reading = asyncio.Lock()
        self._contents = Contents({}, (), ())

    async def read(self) -> None:
        """Read the folder for the first time. InputError says what is wrong in it."""
        try:
            self._contents = await self._load()
        except OSError as error:
            raise InputError(explain_folder(error, self._options.folder)) from None
        if problems := self._contents.problems:
            raise InputError("\n".join(f"{self._options.folder}/{problem}" for problem in problems))

    async def listen(self) -> None:
        """Take the addresses; 503 is the answer until `run`. InputError says what stands in the way."""
        await self._listen(self._options.http, "--http", tls=False)
        if self._options.https:
            await self._listen(self._options.https, "--https", tls=True)
        if self._options.admin:
            self._admin = AdminPort(
                self._plane, class_name=self._options.class_name, name=NAME, version=release()
            )
            await self._admin.open(self._options.admin)

    async def _listen(self, address: Address, option: str, *, tls: bool) -> None:
        try:
            await self._plane.listen(address.host, address.port, tls=tls)
        except OSError as error:
            raise InputError(explain_listen(error, address, option)) from None

    async def close(self) -> None:
        """Let requests in flight end, briefly, and give the addresses back."""
        if self._admin:
            self._admin.draining()
        await self._plane.drain(0.0, GRACE)
        if self._admin:
            await self._admin.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve what was read, follow the folder and tell of sessions until `stop`."""
        self._use(self._contents)
        work = [asyncio.create_task(self._follow(stop)), asyncio.create_task(self._watch_sessions())]
        waiting = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*work, waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*work, waiting):
                task.cancel()
            await asyncio.gather(*work, waiting, return_exceptions=True)

    async def refresh(self) -> bool:
        """Read the folder now, and serve what it says; False when it cannot be read."""
        async with self._reading:
            try:
                contents = await self._load()
            except OSError as error:
                self._told.trouble([f"{explain_folder(error, self._options.folder)}; {STAYS}"])
                return False
            self._use(contents)
            return True

    async def _load(self) -> Contents:
        return await asyncio.to_thread(lambda: self._folder.take(load(self._options.folder)))

    def _use(self, contents: Contents) -> None:
        trouble = [f"{self._options.folder}/{problem}" for problem in contents.problems]
        self._embedded.take(contents.manifests, self._clock())
        if self._admin and self._plane.table:
            self._admin.note(self._plane.table.snapshot)
        self._told.trouble(trouble)
        self._told.ignored(contents)
        self._told.foreign(self._embedded.foreign(), self._options.class_name)
        self._look()
        self._told.empty(self._options.folder, empty=not self._embedded.statuses)

    def _look(self) -> None:
        now = self._clock()
        for news in self._embedded.look(now):
            tell = complain if news.event.type == "Warning" else say
            tell(line(news.route, news.event, datetime.fromtimestamp(now).astimezone()))
        if text := self._board.update(self._embedded.statuses, now):
            say(text)

    async def _follow(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            async for _ in _changes(self._options.folder, stop):
                if not await self.refresh():
                    break
            await asyncio.sleep(1)  # the folder is gone, or cannot be followed: it may come back
            await self.refresh()

    async def _watch_sessions(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._look()


async def _changes(folder: Path, stop: asyncio.Event) -> AsyncIterator[None]:
    """Yields when something in the folder may have changed. Ends when it can be followed no more."""
    with contextlib.suppress(OSError, RuntimeError):
        async for _ in watchfiles.awatch(
            folder,
            stop_event=stop,
            debounce=200,
            step=20,
            recursive=False,
            watch_filter=None,
            rust_timeout=LOOK_AGAIN_MS,
            yield_on_timeout=True,
        ):
            yield


class Told:
    """What was said already: each thing is said once, until it changes."""

    def __init__(self) -> None:
        self._trouble: list[str] = []
        self._ignored = ""
        self._foreign = ""
        self._empty = False

    def trouble(self, trouble: list[str]) -> None:
        for text in trouble:
            if text not in self._trouble:
                complain(text)
        if self._trouble and not trouble:
            say("all files are good again")
        self._trouble = trouble

    def empty(self, folder: Path, *, empty: bool) -> None:
        if empty and not self._empty:
            say(f"no StickyRoute in {folder}: every request is answered with 404 until there is one")
        self._empty = empty

    def ignored(self, contents: Contents) -> None:
        names = ", ".join(f"{key} ({file})" for file, key in contents.ignored)
        if names and names != self._ignored:
            say(f"ignored: {names}; serve reads {', '.join(sorted(KINDS))}")
        self._ignored = names

    def foreign(self, routes: list[str], class_name: str) -> None:
        names = ", ".join(routes)
        if names and names != self._foreign:
            say(f"of another class than {class_name}, so not served here (see --class): {names}")
        self._foreign = names


def explain_folder(error: OSError, folder: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{folder}: there is no such folder; name one that holds Kubernetes manifests"
    if isinstance(error, NotADirectoryError):
        return f"{folder} is a file; name the folder that it is in"
    return f"{folder} cannot be read ({error.strerror}); check its permissions"
