"""One client's connection, and the tally of what all clients met."""

import asyncio
import json
import ssl
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final, Self

from bench import site
from bench.soak import ids
from bench.soak.fleet import COOKIE, HOST
from bench.soak.messages import Answer, UntimelyError, WrongError, take_answer
from bench.soak.pulse import Pulse

PATIENCE: Final = 20.0
"""Seconds without a byte after which a client gives up."""
_DEADLINES: Final = (408, 504)
"""What the proxy answers when a deadline has passed."""
SHOWN: Final = 5
"""So many faults of one kind are kept in full."""


@dataclass(slots=True)
class Tally:
    """What happened, by kind of client."""

    good: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    unjudged: Counter[str] = field(default_factory=Counter)
    """Visits that went amiss by the clock while the soak itself did not keep time."""
    faults: list[str] = field(default_factory=list)

    def fault(self, kind: str, text: str) -> None:
        self.bad[kind] += 1
        if self.bad[kind] <= SHOWN:
            self.faults.append(f"{kind}: {text}")

    def dump(self) -> str:
        return json.dumps([self.good, self.bad, self.unjudged, self.faults])

    @classmethod
    def load(cls, text: bytes | str) -> Self:
        good, bad, unjudged, faults = json.loads(text)
        return cls(Counter(good), Counter(bad), Counter(unjudged), faults)

    def add(self, other: "Tally") -> None:
        self.good.update(other.good)
        self.bad.update(other.bad)
        self.unjudged.update(other.unjudged)
        self.faults += other.faults


@dataclass(slots=True)
class Aim:
    """Where clients go."""

    port: int
    tls_port: int
    tls: ssl.SSLContext

    @classmethod
    def at(cls, port: int, tls_port: int) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # who the proxy is, is not in question here
        context.verify_mode = ssl.CERT_NONE
        return cls(port, tls_port, context)


def request(target: str, name: bytes, *more: str, method: str = "GET", cookie: str = "") -> bytes:
    """A request with an id; `more` are complete fields."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", *site.FIELDS, *more]
    lines.append(f"{ids.FIELD.decode()}: {name.decode()}")
    if cookie:
        lines.append(f"Cookie: {cookie}")
    return "\r\n".join([*lines, "", ""]).encode()


def check(answer: Answer, name: bytes, size: int, status: int = 200) -> None:
    """Raises WrongError unless it is the answer to the request with this id."""
    if answer.status != status:
        kind = UntimelyError if answer.status in _DEADLINES else WrongError
        raise kind(f"status {answer.status} and not {status}: {answer.body[:200]!r}")
    told = answer.fields.get(ids.FIELD.lower())
    if told != name:
        raise WrongError(f"the answer to {told!r} came to {name!r}")
    if answer.body != ids.repeated(name, size):
        raise WrongError(f"a body of {len(answer.body)} bytes and not {size} of its own id, or of another's")


def session(answer: Answer, cookie: str) -> str:
    """The cookie that the client sends from now on."""
    given = answer.fields.get(b"set-cookie", b"").decode()
    return given.partition(";")[0] if given.startswith(f"{COOKIE}=") else cookie


class Connection:
    """One connection, read to the letter: what nobody asked for is a fault."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.buffer = bytearray()

    @classmethod
    async def open(cls, aim: Aim, *, tls: bool = False) -> Self:
        if tls:
            return cls(
                *await asyncio.open_connection(site.ADDRESS, aim.tls_port, ssl=aim.tls, server_hostname=HOST)
            )
        return cls(*await asyncio.open_connection(site.ADDRESS, aim.port))

    async def ask(self, message: bytes) -> Answer:
        """One request, its whole answer. Raises WrongError."""
        if self.buffer:
            raise WrongError(f"bytes that nobody asked for: {bytes(self.buffer[:60])!r}")
        self.writer.write(message)
        return await self.answer()

    async def answer(self) -> Answer:
        while (found := take_answer(self.buffer)) is None:
            await self.more()
        return found

    async def more(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):  # not wait_for: before 3.12 it may swallow cancellation
                part = await self.reader.read(1 << 18)
        except TimeoutError:
            raise UntimelyError(f"nothing came for {PATIENCE:g} s, {len(self.buffer)} bytes in") from None
        if not part:
            raise WrongError(f"closed {len(self.buffer)} bytes into an answer")
        self.buffer += part

    async def closed(self) -> None:
        """Wait for the proxy's end. Raises WrongError where more comes than that."""
        try:
            async with asyncio.timeout(PATIENCE):
                rest = bytes(self.buffer) + await self.reader.read()
        except TimeoutError:
            raise UntimelyError("not closed behind its last answer") from None
        if rest:
            raise WrongError(f"bytes behind the last answer: {rest[:60]!r}")

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.writer.transport.abort()
        else:
            self.writer.close()


@dataclass(slots=True)
class Client:
    """What every kind of client has."""

    kind: str
    aim: Aim
    random: Random
    tally: Tally
    stop: asyncio.Event
    pulse: Pulse
    cookie: str = ""

    def name(self) -> bytes:
        return ids.new(self.random)

    def good(self, count: int = 1) -> None:
        self.tally.good[self.kind] += count
