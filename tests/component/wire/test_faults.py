"""Backends that break off, stall, lie and babble under many clients at once.

Each request gets one whole answer or one clear error, or its answer is seen to be cut. Every byte of every
body is its request's number, both ways: nothing crosses between clients on the connections that they share.

One thing no proxy can tell: what a backend says unasked when its connection has been used again already is,
in HTTP/1.1, the answer to that. What comes before is found in time (here, and in `test_kept_connections`).
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import pytest
from tests.component.wire.corpus import strict
from tests.component.wire.harness import serving

from stickyroute_api.snapshot import Timeouts
from stickyroute_proxy.wire import listener

CLIENTS = 24
REQUESTS = 25
"""Of each client."""
SIZE = 4096
"""Bytes of a body: a number's digits, over and over."""
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"

# What a client sees.
WHOLE, ERROR, CUT = "whole", "error", "cut"


def stream(number):
    """A body that no other request has."""
    return (b"%07d." % number) * (SIZE // 8)


def sized(number, *, more=0):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SIZE + more)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


class Fault(NamedTuple):
    """What a backend sends for a request, and what it does then; what the client may see of it."""

    sends: Callable[[int], list[bytes]]
    ends: str
    seen: set[str]


# What a backend does behind what it sends.
GOES_ON, CLOSES, RESETS, STALLS = "goes on", "closes", "resets", "stalls"
ANY = {WHOLE, ERROR, CUT}
"""Where a backend resets, the kernel may throw away what it has sent."""
LAST = b"0\r\n\r\n"


def bytewise(data):
    return [bytes((one,)) for one in data]


def cut(body, ends=CLOSES):
    """The head, and then what is no whole body."""
    return Fault(lambda n: [CHUNKED, body(n)], ends, {CUT})


def error(sent, ends=STALLS):
    return Fault(lambda n: [sent], ends, {ERROR})


FAULTS = {
    "whole": Fault(lambda n: [sized(n) + stream(n)], GOES_ON, {WHOLE}),
    "whole in chunks": Fault(lambda n: [CHUNKED + chunk(stream(n)) + LAST], GOES_ON, {WHOLE}),
    "whole until close": Fault(lambda n: [b"HTTP/1.1 200 OK\r\n\r\n" + stream(n)], CLOSES, {WHOLE}),
    "whole in two": Fault(lambda n: [sized(n), stream(n)], GOES_ON, {WHOLE}),
    "a byte a packet": Fault(lambda n: [*bytewise(sized(n)), stream(n)], GOES_ON, {WHOLE}),
    "chunks a byte a packet": Fault(
        lambda n: [*bytewise(CHUNKED + chunk(stream(n)[:32])), chunk(stream(n)[32:]), *bytewise(LAST)],
        GOES_ON,
        {WHOLE},
    ),
    "interim answers": Fault(lambda n: [INTERIM * 20 + sized(n) + stream(n)], GOES_ON, {WHOLE}),
    "interim in pieces": Fault(lambda n: [*bytewise(INTERIM), sized(n), stream(n)], GOES_ON, {WHOLE}),
    "closes before the answer": Fault(lambda n: [], CLOSES, {ERROR, WHOLE}),
    "resets before the answer": Fault(lambda n: [], RESETS, {ERROR, WHOLE}),
    "closes in the status line": error(b"HTTP/1.1 20", CLOSES),
    "closes in the head": error(b"HTTP/1.1 200 OK\r\nContent-Le", CLOSES),
    "resets in the head": Fault(lambda n: [sized(n)[:30]], RESETS, {ERROR, WHOLE}),
    "closes behind the head": Fault(lambda n: [sized(n)], CLOSES, {CUT}),
    "resets behind the head": Fault(lambda n: [sized(n)], RESETS, ANY),
    "closes in the body": Fault(lambda n: [sized(n) + stream(n)[:1000]], CLOSES, {CUT}),
    "resets in the body": Fault(lambda n: [sized(n) + stream(n)[:1000]], RESETS, ANY),
    "closes a byte early": Fault(lambda n: [sized(n), stream(n)[:-1]], CLOSES, {CUT}),
    "closes between chunks": cut(lambda n: chunk(stream(n))),
    "closes in a chunk": cut(lambda n: chunk(stream(n))[:100]),
    "closes in a chunk's size": cut(lambda n: chunk(stream(n)) + b"1"),
    "closes before the last line": cut(lambda n: chunk(stream(n)) + b"0\r\n"),
    "stalls": Fault(lambda n: [], STALLS, {ERROR}),
    "stalls in the head": error(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "stalls in the body": Fault(lambda n: [sized(n) + stream(n)[:1000]], STALLS, {CUT}),
    "stalls in chunks": cut(lambda n: chunk(stream(n)), ends=STALLS),
    "sends too little": Fault(lambda n: [sized(n, more=9) + stream(n)], CLOSES, {CUT}),
    "sends too much": Fault(lambda n: [sized(n) + stream(n) + b"poison"], GOES_ON, {WHOLE}),
    "sends another answer": Fault(lambda n: [sized(n) + stream(n) + POISON], GOES_ON, {WHOLE}),
    "sends another in chunks": Fault(
        lambda n: [CHUNKED + chunk(stream(n)) + LAST + POISON], GOES_ON, {WHOLE}
    ),
    "sends line ends": Fault(lambda n: [sized(n) + stream(n) + b"\r\n\r\n"], GOES_ON, {WHOLE}),
    "chunk longer than its size": cut(lambda n: b"fff\r\n" + stream(n) + b"\r\n" + LAST),
    "chunk shorter than its size": cut(lambda n: b"1001\r\n" + stream(n) + b"\r\n" + LAST),
    "chunk of nonsense": cut(lambda _: b"xyz\r\nhello\r\n"),
    "chunk below zero": cut(lambda _: b"-1\r\nhello\r\n"),
    "chunk beyond all": cut(lambda _: b"f" * 17 + b"\r\nhello\r\n"),
    "endless head": error(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20_000),
    "endless line": error(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000),
    "stalls behind interim answers": Fault(lambda n: [INTERIM * 2000], STALLS, {ERROR}),
    "no HTTP": error(b"220 mail.example.com ESMTP\r\n\r\n"),
    "two lengths": error(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "length and chunks": error(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" + CHUNKED[17:] + b"1\r\na\r\n" + LAST
    ),
    "101 to no one": error(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
}


SLOW = [name for name in FAULTS if name.startswith("stalls")]
"""Those that end with the request timeout: one to a client is enough."""
QUICK = [name for name in FAULTS if name not in SLOW]


class Backend:
    """Does what each request asks for, and keeps what it was sent."""

    def __init__(self):
        self.seen = {}
        self.crossed = []

    async def script(self, peer):
        early = Random(0)
        while True:
            try:
                head = await peer.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            number, fault = self._of(head)
            self.seen[number] = self.seen.get(number, 0) + 1
            if b"X-Early: yes" in head:
                await peer.send(sized(number) + stream(number))
                if early.random() < 0.5:
                    return
                await peer.reader.read()
                return
            body = await self._body(peer, head)
            if body not in (b"", stream(number)):
                self.crossed.append((number, body[:200]))
            pieces, ends, _ = FAULTS[fault]
            for piece in pieces(number):
                await peer.send(piece)
                await asyncio.sleep(0)
            if ends == CLOSES:
                return
            if ends == RESETS:
                peer.writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                peer.writer.transport.abort()
                return
            if ends == STALLS:
                await peer.reader.read()
                return

    @staticmethod
    def _of(head):
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        return int(fields[b"X-Number"]), fields[b"X-Fault"].decode()

    @staticmethod
    async def _body(peer, head):
        lower = head.lower()
        if b"\r\ncontent-length: " in lower:
            length = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            return await peer.reader.readexactly(length)
        body = b""
        if b"\r\ntransfer-encoding: chunked" in lower:
            while size := int(await peer.reader.readuntil(b"\r\n"), 16):
                body += (await peer.reader.readexactly(size + 2))[:-2]
            await peer.reader.readuntil(b"\r\n")
        return body


def request(number, fault, kind):
    fields = b"Host: shop.example.com\r\nX-Number: %d\r\nX-Fault: %b\r\n" % (number, fault.encode())
    body = stream(number)
    match kind:
        case "POST":
            return b"POST / HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, SIZE, body)
        case "chunks":
            framed = chunk(body[:1000]) + chunk(body[1000:]) + b"0\r\n\r\n"
            return b"POST / HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (fields, framed)
        case "early":
            # The rest of the body comes, if at all, behind the answer.
            head = b"POST / HTTP/1.1\r\n%bX-Early: yes\r\nContent-Length: %d\r\n\r\n" % (fields, 8 * SIZE)
            return head + body
        case _:
            return b"GET / HTTP/1.1\r\n%b\r\n" % fields


class Client:
    """Asks one after another; opens a new connection where the last was closed."""

    def __init__(self, proxy, random, first):
        self._proxy = proxy
        self._random = random
        self._first = first
        self._raw = None
        self.faults = []

    async def run(self):
        for number in range(self._first, self._first + REQUESTS):
            fault = self._random.choice(SLOW if number == self._first else QUICK)
            kind = self._random.choice(("GET", "GET", "POST", "chunks", "early"))
            if kind == "early":
                fault = "whole"
            if self._raw is None:
                self._raw = await self._proxy.connect()
            try:
                await self._raw.send(request(number, fault, kind))
                outcome = await self._answer(number)
            except ConnectionError:
                outcome = CUT
                await self._leave()
            allowed = FAULTS[fault].seen
            if outcome not in allowed:
                self.faults.append(f"{number}: {kind} to one that {fault!r} came to {outcome!r}")
            if kind == "early":
                await self._leave()
        await self._leave()

    async def _leave(self):
        if self._raw is not None:
            raw, self._raw = self._raw, None
            await raw.close()

    async def _answer(self, number):
        data = b""
        while True:
            try:
                while True:
                    message, end = strict.read_answer(data, 0, to_head=False, ended=False)
                    data = data[end:]
                    if not message.start[1].startswith(b"1"):
                        return await self._judge(number, message, data)
            except strict.IncompleteError:
                pass
            async with asyncio.timeout(20):
                piece = await self._raw.reader.read(65536)
            if not piece:
                await self._leave()
                body = data.rpartition(b"\r\n\r\n")[2]
                if b"poison" in data or not self._own(number, body):
                    self.faults.append(f"{number}: got another's bytes: {data!r}")
                return CUT if data else "nothing"
            data += piece

    async def _judge(self, number, message, rest):
        if rest:
            self.faults.append(f"{number}: got more than an answer: {rest[:200]!r}")
        if b"close" in message.values(b"connection"):
            assert await self._raw.rest() == b""
            await self._leave()
        status = int(message.start[1])
        if status != 200:
            return ERROR if status in (502, 503, 504, 408) else f"status {status}"
        return WHOLE if message.body == stream(number) else f"a body of {message.body[:100]!r}"

    @staticmethod
    def _own(number, body):
        """Whether what came of a body is the number's digits, whatever the chunks' lines between them."""
        digits = b"%07d." % number
        pieces = body.split(b"\r\n")
        return all(len(piece) < 8 or piece in stream(number) or digits in piece for piece in pieces)


@pytest.mark.parametrize("seed", range(2))
async def test_one_answer_each_and_nothing_crosses(monkeypatch, seed):
    monkeypatch.setattr(listener, "TICK", 0.05)
    random = Random(seed)
    backend = Backend()
    async with serving(backend.script, backend.script, timeouts=Timeouts(request=5.0)) as (proxy, *_):
        clients = [Client(proxy, Random(random.random()), 1000 * one) for one in range(CLIENTS)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
        faults = [fault for client in clients for fault in client.faults]
        assert not faults, "\n" + "\n".join(faults)
        assert not backend.crossed
        assert max(backend.seen.values()) <= 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_alone(monkeypatch, fault):
    """Each by itself, over and over, for GET and POST; a POST goes out once."""
    monkeypatch.setattr(listener, "TICK", 0.05)
    backend = Backend()

    async with serving(backend.script, timeouts=Timeouts(request=0.4 if fault in SLOW else 20.0)) as (
        proxy,
        _,
    ):
        client = Client(proxy, Random(0), 0)
        for number, kind in enumerate(("GET", "POST", "chunks", "GET")):
            client._raw = client._raw or await proxy.connect()
            await client._raw.send(request(number, fault, kind))
            outcome = await client._answer(number)
            assert outcome in FAULTS[fault].seen, (kind, outcome)
        await client._leave()
        assert not client.faults
        assert not backend.crossed
        assert backend.seen[1] == backend.seen[2] == 1
