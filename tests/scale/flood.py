"""A million keys that nobody knows, through a proxy process, while sessions are bound.

A third are addresses that are hashed, a third forged tokens in a header, a third cookies: forged, or none at
all, for which a session begins that never comes back.
"""

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from tests.scale.proxy import BODY, Proxy, serving

KEYS = 1_000_000
SESSIONS = 5_000
"""Of each kind that has tokens."""
ROOM = 64 << 20
"""Bytes by which the proxy may grow."""
CONNECTIONS = 8
DEPTH = 16
"""Requests under way on each."""
_GOOD = b"HTTP/1.1 200 "
_TOKEN = re.compile(rb"\r\n(?:set-cookie: sr=|X-Session: )([\w-]+)", re.IGNORECASE)
_POD = re.compile(rb"\r\nX-Pod: ([\w-]+)", re.IGNORECASE)


@dataclass
class Flooded:
    """What a flood did."""

    keys: int
    seconds: float
    before: int
    most: int
    """Resident bytes of the proxy, before and at most."""
    sessions: int
    moved: int
    """Of the sessions, how many were bound no more."""

    @property
    def line(self) -> str:
        return (
            f"{self.keys:,} keys through a proxy in {self.seconds:.0f} s, "
            f"{self.keys / self.seconds:,.0f} a second: its memory grew from {_mib(self.before)} "
            f"to at most {_mib(self.most)}; of {self.sessions:,} sessions {self.moved} moved"
        )

    @property
    def faults(self) -> list[str]:
        found = []
        if self.most - self.before > ROOM:
            found.append(f"a flood of keys took {_mib(self.most - self.before)}, more than {_mib(ROOM)}")
        if self.moved:
            found.append(f"{self.moved} sessions are not bound after a flood of keys")
        return found


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


class WrongError(Exception):
    """The proxy did not answer as it has to."""


@dataclass
class Client(asyncio.Protocol):
    """One connection that is kept alive, with several requests under way until there are no more."""

    requests: Iterator[bytes]
    keep: bool = False
    """Whether the answers are of interest."""
    answers: list[bytes] = field(default_factory=list)
    _rest: bytes = b""
    _asked: int = 0
    _answered: int = 0

    def connection_made(self, transport) -> None:
        self._transport = transport
        self.done = asyncio.get_running_loop().create_future()
        self._ask(DEPTH)

    def _ask(self, count: int) -> None:
        more = [request for _, request in zip(range(count), self.requests, strict=False)]
        self._asked += len(more)
        self._transport.write(b"".join(more))
        if self._answered == self._asked:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        *answers, self._rest = (self._rest + data).split(BODY)
        for answer in answers:
            if not answer.startswith(_GOOD):
                self.connection_lost(WrongError(f"an answer other than 200: {answer[:200]!r}"))
                self._transport.abort()
                return
        if self.keep:
            self.answers += answers
        self._answered += len(answers)
        self._ask(len(answers))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done.done():
            return
        if exc is None and (self._rest or self._answered != self._asked):
            exc = WrongError(f"closed with {self._asked - self._answered} requests not answered")
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


async def ask(proxy: Proxy, requests: Iterator[bytes], *, keep: bool = False) -> list[bytes]:
    """The answers, in order, where they are kept. Raises WrongError, OSError."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(requests, keep), "127.0.0.1", proxy.port)
    await client.done
    return client.answers


def request(kind: str, *fields: bytes) -> bytes:
    host = b"Host: %b.example.com" % kind.encode()
    return b"\r\n".join([b"GET /cart HTTP/1.1", host, b"Accept: */*", *fields, b"", b""])


def shown(kind: str, token: bytes) -> bytes:
    """The field in which a client shows its token."""
    return (b"Cookie: theme=dark; sr=" if kind == "cookie" else b"X-Session: ") + token


def flood(token: bytes) -> Iterator[bytes]:
    """The requests, each with another key; the forged ones have this token's form."""
    for number in range(KEYS):
        forged = b"%b%0*d%b" % (token[:4], len(token) - 5, number, token[-1:])
        if number % 3 == 0:
            octets = number >> 16 & 255, number >> 8 & 255, number & 255
            yield request("address", b"X-Forwarded-For: 11.%d.%d.%d" % octets)
        elif number % 3 == 1:
            yield request("header", shown("header", forged))
        elif number % 2:
            yield request("cookie", shown("cookie", forged))
        else:
            yield request("cookie")


async def bind(proxy: Proxy, kind: str) -> list[tuple[bytes, bytes]]:
    """Sessions that have shown their tokens: these and their pods."""
    new = await ask(proxy, iter([request(kind)] * SESSIONS), keep=True)
    sessions = [(_TOKEN.search(answer)[1], _POD.search(answer)[1]) for answer in new]
    if moved := await gone(proxy, kind, sessions):
        raise WrongError(f"{moved} sessions of {kind} are not bound by the token that they were given")
    return sessions


async def gone(proxy: Proxy, kind: str, sessions: list[tuple[bytes, bytes]]) -> int:
    """How many of the sessions do not come to their pods."""
    answers = await ask(proxy, iter([request(kind, shown(kind, token)) for token, _ in sessions]), keep=True)
    return sum(_POD.search(answer)[1] != pod for answer, (_, pod) in zip(answers, sessions, strict=True))


async def _flooded(folder: Path) -> Flooded:
    async with serving(folder) as proxy:
        bound = {kind: await bind(proxy, kind) for kind in ("cookie", "header")}
        before = most = proxy.memory()
        began = time.monotonic()
        requests = flood(bound["cookie"][0][0])
        clients = [asyncio.ensure_future(ask(proxy, requests)) for _ in range(CONNECTIONS)]
        try:
            waiting = set(clients)
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
                for one in done:
                    one.result()
                most = max(most, proxy.memory())
        finally:
            for one in clients:
                one.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await one
        seconds = time.monotonic() - began
        moved = sum([await gone(proxy, kind, sessions) for kind, sessions in bound.items()])
        return Flooded(KEYS, seconds, before, most, SESSIONS * len(bound), moved)


def flooded() -> Flooded:
    """Raises WrongError, OSError, and StartError where the proxy does not serve."""
    with (
        tempfile.TemporaryDirectory() as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_flooded(Path(name)))
