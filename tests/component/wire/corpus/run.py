"""Sends messages through a proxy to a backend that records, and judges what became of each."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import h11
from tests.component.wire.corpus import strict
from tests.component.wire.corpus.message import Message
from tests.component.wire.corpus.rules import LEFT_OPEN

AT_ONCE = 48
"""Connections at a time."""
PATIENCE = 10.0
"""Seconds until a message that is neither answered nor refused has failed."""

_NUMBER = re.compile(rb"(?i)X-Case: ([0-9]{5})")

UNCOMPARED = frozenset(
    b"host content-length transfer-encoding connection upgrade expect keep-alive te trailer via x-request-id"
    b" x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip forwarded".split()
)
"""Fields that a proxy writes itself, and those that are compared on their own."""
NEVER_IN_TRAILERS = frozenset(
    b"host content-length transfer-encoding connection trailer te upgrade expect authorization cookie range"
    b" content-type content-encoding cache-control x-forwarded-for x-session-lost".split()
)
"""RFC 9110 §6.5.1: framing, routing, authentication and modifiers have no place behind a body."""


def tail(number: int) -> bytes:
    """The request behind each message: served only if it was read as a request of its own."""
    return (
        b"GET /tail HTTP/1.1\r\nHost: shop.example.com\r\nX-Tail: %05d\r\nConnection: close\r\n\r\n" % number
    )


@dataclass
class Record:
    """What a backend has received."""

    messages: dict[int, list[strict.Message]] = field(default_factory=lambda: defaultdict(list))
    malformed: dict[int, str] = field(default_factory=dict)
    """What is no request, by the number in it."""
    tails: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    faults: list[str] = field(default_factory=list)
    """What nobody can have sent."""


class Recorder(asyncio.Protocol):
    """One of the backend's connections: reads strictly, and answers with the message's number."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._data = b""
        self._continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._data:
            try:
                message, end = strict.read_request(self._data)
            except strict.IncompleteError:
                head = self._data.partition(b"\r\n\r\n")
                if head[1] and b"\r\nexpect:" in head[0].lower() and not self._continued:
                    self._continued = True
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            except strict.MalformedError as error:
                number = _NUMBER.search(self._data)
                if number:
                    self._record.malformed[int(number[1])] = f"{error}: {self._data[:400]!r}"
                else:
                    self._record.faults.append(
                        f"a backend got what is no request: {error}: {self._data[:400]!r}"
                    )
                self._transport.close()
                return
            self._data = self._data[end:]
            self._continued = False
            self._take(message)

    def _take(self, message: strict.Message) -> None:
        tails, cases = message.values(b"x-tail"), message.values(b"x-case")
        if message.start[1].startswith(b"/smuggled"):
            self._record.faults.append(f"smuggled: {message.raw!r}")
        elif tails:
            self._record.tails[int(tails[0])] += 1
        elif cases:
            self._record.messages[int(cases[0][:5])].append(message)
        else:
            self._record.faults.append(f"a backend got a request that nobody sent: {message.raw!r}")
        name = (b"tail " + tails[0]) if tails else b"".join(cases)
        body = b"" if message.start[0] == b"HEAD" else name
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nX-Answers: %b\r\nContent-Length: %d\r\n\r\n%b" % (name, len(name), body)
        )


@dataclass
class Result:
    """What a client has got for a message: its answers' statuses and names, or why they cannot be read."""

    answers: list[tuple[int, bytes]]
    closed: bool
    fault: str = ""


def read_answers(data: bytes, methods: Iterable[bytes]) -> Result:
    """The final answers in what came back until the connection's end."""
    found: list[tuple[int, bytes]] = []
    pos = 0
    expected = [*methods]
    while pos < len(data):
        method = expected[min(len(found), len(expected) - 1)]
        try:
            answer, pos = strict.read_answer(data, pos, to_head=method == b"HEAD", ended=True)
        except (strict.MalformedError, strict.IncompleteError) as error:
            return Result(
                found, closed=True, fault=f"unreadable answer: {error!r} in {data[pos : pos + 300]!r}"
            )
        status = int(answer.start[1])
        if status >= 200:
            found.append((status, b"".join(answer.values(b"x-answers"))))
    return Result(found, closed=True)


async def send(port: int, message: Message, cuts: tuple[int, ...] = (), patience: float = PATIENCE) -> Result:
    """Send a message in the pieces that the cuts make, a tail behind it, and read until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = message.data
    try:
        with suppress(ConnectionError):
            for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
                writer.write(data[start:end])
                if cuts:
                    await asyncio.sleep(0.001)
            if message.ends:
                writer.write_eof()
            else:
                writer.write(tail(message.number))
            await writer.drain()
        received = b""
        try:
            async with asyncio.timeout(patience):
                while piece := await reader.read(1 << 16):
                    received += piece
        except TimeoutError:
            result = read_answers(received, (message.meaning.method, b"GET"))
            result.closed = False
            return result
        except ConnectionError:
            pass  # a reset ends a connection as well
        return read_answers(received, (message.meaning.method, b"GET"))
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def send_all(
    port: int, messages: Iterable[tuple[Message, tuple[int, ...]]], patience: float = PATIENCE
) -> dict[int, Result]:
    """Send each message, with its cuts, on a connection of its own: results by number."""
    waiting = iter(messages)
    results: dict[int, Result] = {}

    async def work() -> None:
        for message, cuts in waiting:
            results[message.number] = await send(port, message, cuts, patience)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return results


def judge(message: Message, result: Result, record: Record) -> str | None:
    """What is wrong with what became of a message, or None."""
    served, refused = message.outcome
    got = record.messages.get(message.number, [])
    tails = record.tails.get(message.number, 0)
    if message.number in record.malformed:
        return f"reached the backend malformed: {record.malformed[message.number]}"
    if result.fault:
        return result.fault
    if not result.closed:
        return f"the connection stayed open after {result.answers}"
    status = result.answers[0][0] if result.answers else 0
    if got and not served:
        return f"reached the backend, and was answered {result.answers}: {got[0].raw[:300]!r}"
    if not got:
        if status not in refused:
            return (
                f"refused with {status}, not one of {sorted(refused)}"
                if refused
                else f"not served but {status}"
            )
        if len(result.answers) > 1:
            return f"a refusal and further answers: {result.answers}"
        return "what came behind a refused message was served" if tails else None
    return _judge_served(message, result, got, tails)


def _judge_served(message: Message, result: Result, got: list[strict.Message], tails: int) -> str | None:
    if len(got) > 1:
        return f"reached the backend {len(got)} times"
    name = b"%05d" % message.number
    behind = [] if message.closes else [(200, b"tail " + name)]
    left_open = not LEFT_OPEN.isdisjoint(message.rules)
    if result.answers != [(200, name), *behind] and not (left_open and result.answers[:1] == [(200, name)]):
        return f"answered {result.answers}"
    if tails != len(behind) and not (left_open and not tails):
        return f"what came behind was served {tails} times"
    readings = {"strict": meaning_of(got[0]), "h11": read_by_h11(got[0].raw)}
    for reader, reading in readings.items():
        if isinstance(reading, str):
            return f"{reader}: {reading}"
        fault = compare(message, reading)
        if fault:
            return f"{reader}: {fault}"
    return None


@dataclass
class Reading:
    """What a parser makes of a request at the backend."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]


def meaning_of(message: strict.Message) -> Reading:
    method, target, _ = message.start
    return Reading(method, target, message.fields, message.body, message.trailers)


def read_by_h11(data: bytes) -> Reading | str:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 22)
    connection.receive_data(data)
    body = b""
    request = None
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            return f"{error} in {data[:300]!r}"
        match event:
            case h11.Request():
                request = event
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage() if request is not None:
                if connection.trailing_data[0]:
                    return f"reads more than one message in {data[:300]!r}"
                fields = [(bytes(name), bytes(value)) for name, value in request.headers]
                trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
                return Reading(bytes(request.method), bytes(request.target), fields, body, trailers)
            case _:
                return f"finds {event} in {data[:300]!r}"


def compare(message: Message, reading: Reading) -> str | None:
    """Where a reading differs from what the message means."""
    means = message.meaning
    if (reading.method, reading.target) != (means.method, means.target):
        return f"{reading.method!r} {reading.target!r} instead of {means.method!r} {means.target!r}"
    hosts = [value for name, value in reading.fields if name == b"host"]
    if len(hosts) != 1 or (means.host is not None and hosts[0] != means.host):
        return f"Host {hosts} instead of {means.host!r}"
    fields = sorted(pair for pair in reading.fields if pair[0] not in UNCOMPARED)
    if fields != sorted(means.fields):
        return f"fields {fields} instead of {sorted(means.fields)}"
    if reading.body != means.body:
        return f"body {reading.body[:200]!r} instead of {means.body[:200]!r}"
    strange = [
        pair for pair in reading.trailers if pair not in means.trailers or pair[0] in NEVER_IN_TRAILERS
    ]
    return f"trailers {strange}" if strange else None
