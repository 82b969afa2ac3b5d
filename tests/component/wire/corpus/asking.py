"""Asks a proxy for answers that a backend has been told to give, and judges what comes."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import h11
from tests.component.wire.corpus import strict
from tests.component.wire.corpus.answer import Answer
from tests.component.wire.corpus.run import AT_ONCE, PATIENCE, tail

WRITTEN_BY_PROXIES = frozenset(
    b"connection content-length transfer-encoding keep-alive upgrade trailer via date".split()
)


class Teller(asyncio.Protocol):
    """One of the backend's connections: answers with what the request's number says."""

    def __init__(self, answers: dict[int, Answer]) -> None:
        self._answers = answers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._data:
            try:
                request, end = strict.read_request(self._data)
            except strict.IncompleteError:
                return
            self._data = self._data[end:]
            tails = request.values(b"x-tail")
            if tails:
                name = b"tail " + tails[0]
                self._transport.write(
                    b"HTTP/1.1 200 OK\r\nX-Tail: %b\r\nContent-Length: 4\r\n\r\ntail" % name
                )
                continue
            answer = self._answers[int(request.values(b"x-case")[0])]
            self._transport.write(answer.data)
            if answer.ends:
                self._transport.close()


@dataclass
class Got:
    """What a client has received until the connection's end; `reset`: that was an abrupt one."""

    data: bytes
    reset: bool
    closed: bool


async def ask(port: int, answer: Answer, patience: float = PATIENCE) -> Got:
    """Ask for the answer, and, in HTTP/1.1, for another behind it on the same connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    version = b"1.0" if answer.http10 else b"1.1"
    request = b"%b /answer HTTP/%b\r\nHost: shop.example.com\r\nX-Case: %05d\r\n\r\n" % (
        answer.method,
        version,
        answer.number,
    )
    received = b""
    try:
        writer.write(request if answer.http10 else request + tail(answer.number))
        async with asyncio.timeout(patience):
            while piece := await reader.read(1 << 16):
                received += piece
    except TimeoutError:
        return Got(received, reset=False, closed=False)
    except ConnectionError:
        return Got(received, reset=True, closed=True)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return Got(received, reset=False, closed=True)


async def ask_all(port: int, answers: Iterable[Answer], patience: float = PATIENCE) -> dict[int, Got]:
    """Ask for each on a connection of its own: what came, by number."""
    waiting = iter(answers)
    got: dict[int, Got] = {}

    async def work() -> None:
        for answer in waiting:
            got[answer.number] = await ask(port, answer, patience)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return got


def judge(answer: Answer, got: Got) -> str | None:
    """What is wrong with what a client got, or None."""
    data = got.data
    if b"oison" in data:
        return f"poisoned: {data[-300:]!r}"
    if not got.closed:
        return f"the connection stayed open: {data[:300]!r}"
    try:
        interim, message, end = _first(data, to_head=answer.method == b"HEAD", ended=not got.reset)
    except strict.IncompleteError:
        cut = "cut" in answer.outcomes and (data or got.reset)
        return None if cut else f"cut: {data[:300]!r}, reset: {got.reset}"
    except strict.MalformedError as error:
        return f"unreadable: {error}"
    if int(message.start[1]) == 502:
        fault = None if "refused" in answer.outcomes else f"refused: {message.raw!r}"
    elif "served" in answer.outcomes:
        fault = _compare(answer, message, interim)
    else:
        fault = f"served: {message.raw[:400]!r}"
    return fault or _judge_rest(answer, data[end:])


def _first(data: bytes, *, to_head: bool, ended: bool) -> tuple[tuple[int, ...], strict.Message, int]:
    """The first final answer: what came before it, itself, and the position behind it."""
    interim: list[int] = []
    pos = 0
    while True:
        message, pos = strict.read_answer(data, pos, to_head=to_head, ended=ended)
        status = int(message.start[1])
        if status >= 200:
            return tuple(interim), message, pos
        interim.append(status)


def _judge_rest(answer: Answer, rest: bytes) -> str | None:
    if answer.http10:
        return f"behind the end: {rest!r}" if rest else None
    line = b"HTTP/1.1 200 OK\r\nX-Tail: tail %05d\r\n" % answer.number
    return None if rest.startswith(line) and rest.count(b"HTTP/") == 1 else f"the next answer is {rest!r}"


def _compare(answer: Answer, message: strict.Message, interim: tuple[int, ...]) -> str | None:
    if [one for one in interim if one != 100] != [one for one in answer.interim if one != 100]:
        return f"interim {interim} instead of {answer.interim}"
    if int(message.start[1]) != answer.status:
        return f"status {message.start[1]!r} instead of {answer.status}"
    readings = {"strict": (message.fields, message.body), "h11": read_by_h11(answer.method, message.raw)}
    for reader, reading in readings.items():
        if isinstance(reading, str):
            return f"{reader}: {reading}"
        fields, body = reading
        kept = sorted(pair for pair in fields if pair[0] not in WRITTEN_BY_PROXIES)
        meant = sorted(pair for pair in answer.fields if pair[0] not in WRITTEN_BY_PROXIES)
        if kept != meant:
            return f"{reader}: fields {kept} instead of {meant}"
        if body != answer.body:
            return f"{reader}: body {body[:200]!r} instead of {answer.body[:200]!r}"
    return None


def read_by_h11(method: bytes, raw: bytes) -> tuple[list[tuple[bytes, bytes]], bytes] | str:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 22)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    connection.receive_data(b"")
    fields: list[tuple[bytes, bytes]] = []
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            return f"{error} in {raw[:300]!r}"
        match event:
            case h11.InformationalResponse():
                pass
            case h11.Response():
                fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                return fields, body
            case _:
                return f"finds {event} in {raw[:300]!r}"
