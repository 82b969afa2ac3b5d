"""Bodies of any size, tunnels, and the end."""

import asyncio
import hashlib
import re
from contextlib import suppress

import pytest
from tests.component.wire.harness import OK, echo, eventually, get, serving

from stickyroute_api.snapshot import Timeouts
from stickyroute_proxy.wire import closing, listener

SIZE = 24 * 1024 * 1024
BOUND = 4 * 1024 * 1024
"""Far above what a proxy that streams holds of a body, kernel buffers included; far below a body."""


async def test_a_slow_reader_slows_the_backend():
    sent = 0

    async def script(peer):
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        block = bytes(range(256)) * 256
        while sent < SIZE:
            await peer.send(block)
            sent += len(block)

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/"))
        await raw.head()
        previous = -1
        while sent != previous:
            previous = sent
            await asyncio.sleep(0.3)
        connection = next(iter(proxy.plane.active))
        assert connection._transport.get_write_buffer_size() < BOUND / 4
        assert sent < SIZE / 2
        got = hashlib.sha256()
        left = SIZE
        while left:
            data = await raw.reader.read(1 << 20)
            assert data
            got.update(data)
            left -= len(data)
        assert got.digest() == hashlib.sha256(bytes(range(256)) * (SIZE // 256)).digest()
        await raw.close()


async def test_a_slow_backend_slows_the_client():
    go = asyncio.Event()
    digest = hashlib.sha256()

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await go.wait()
        left = SIZE
        while left:
            line = await peer.reader.readuntil(b"\r\n")
            data = await peer.reader.readexactly(int(line, 16) + 2)
            digest.update(data[:-2])
            left -= len(data) - 2
        await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(OK)

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        sent = 0

        async def upload():
            nonlocal sent
            await raw.send(get("/", "Transfer-Encoding: chunked", method="POST"))
            block = bytes(range(256)) * 256
            while sent < SIZE:
                await raw.send(b"%x\r\n%b\r\n" % (len(block), block))
                sent += len(block)
            await raw.send(b"0\r\n\r\n")

        task = asyncio.create_task(upload())
        previous = -1
        while sent != previous:
            previous = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < SIZE / 2
        assert len(next(iter(proxy.plane.active))._buffer) < BOUND / 4
        go.set()
        assert (await raw.answer())[1] == b"ok"
        await task
        assert digest.digest() == hashlib.sha256(bytes(range(256)) * (SIZE // 256)).digest()
        await raw.close()


async def test_a_body_waits_for_a_connection_and_a_client_may_leave():
    async def script(peer):
        await peer.request()

    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 1000000", method="POST") + b"x" * 1000)
        await eventually(lambda: backend.bytes)
        await raw.close()
        await eventually(lambda: not proxy.plane.counters.exchanges)
        counters = proxy.plane.counters.rules["shop/shop", "app"]
        assert counters.classes == [1, 0, 0, 0, 0, 0]


async def test_a_client_that_closed_its_half_gets_its_answer():
    async with serving(echo()) as (proxy, _):
        assert (await proxy.ask(get("/", "Content-Length: 2", method="POST") + b"ok")).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("chunked_up", [True, False])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_each_event_arrives_before_the_next_is_sent(version, chunked_up):
    arrived = asyncio.Event()

    async def script(peer):
        await peer.request()
        coding = b"Transfer-Encoding: chunked\r\n" if chunked_up else b""
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + coding + b"\r\n")
        for i in range(5):
            event = b"data: %d\n\n" % i
            await peer.send(b"%x\r\n%b\r\n" % (len(event), event) if chunked_up else event)
            await arrived.wait()
            arrived.clear()
        if chunked_up:
            await peer.send(b"0\r\n\r\n")

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/", "Connection: close", version=version))
        assert b"set-cookie: sr=" in await raw.head()
        for i in range(5):
            async with asyncio.timeout(5):
                line = await raw.reader.readuntil(b"\n\n")
            assert line.endswith(b"data: %d\n\n" % i)
            arrived.set()
        assert await raw.rest() == (b"" if version == "1.0" else b"\r\n0\r\n\r\n")
        await raw.close()


@pytest.mark.parametrize("framing", ["Content-Length: 4000000", "Transfer-Encoding: chunked"])
async def test_an_answer_before_the_requests_end(monkeypatch, framing):
    """It is delivered whole, though the client goes on sending; neither connection serves again."""
    monkeypatch.setattr(listener, "TICK", 0.01)
    monkeypatch.setattr(closing, "LINGER", 0.3)
    lost = asyncio.Event()

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(OK)
        with suppress(ConnectionError):
            while await peer.read():
                pass
        lost.set()

    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", framing, method="POST"))
        head, body = await raw.answer()
        assert (head.startswith(b"HTTP/1.1 200 "), body) == (True, b"ok")
        assert b"\r\nConnection: close\r\n" in head
        await asyncio.wait_for(lost.wait(), 5)
        assert not proxy.plane.counters.exchanges
        for _ in range(8):  # longer than one linger
            await raw.send(b"5\r\nhello\r\n")
            await asyncio.sleep(0.1)
        assert await raw.rest() == b""
        await raw.close()
        assert (await proxy.ask(get())).endswith(b"ok")
        assert backend.connections == 2


async def test_an_answer_before_the_requests_end_may_go_on_beside_it():
    """The body's rest goes up while the answer comes down; both at their end, both connections live on."""

    async def script(peer):
        with suppress(asyncio.IncompleteReadError):
            while True:
                await peer.reader.readuntil(b"\r\n\r\n")
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
                for _ in range(10):
                    await peer.send(await peer.reader.readexactly(1))

    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()
        for _ in range(2):
            await raw.send(get("/", "Content-Length: 10", method="POST"))
            await raw.head()
            for byte in b"0123456789":
                await raw.send(bytes((byte,)))
                assert await raw.reader.readexactly(1) == bytes((byte,))
        await raw.close()
        assert backend.connections == 1


UPGRADE = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: x",
    "Sec-WebSocket-Version: 13",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: y\r\n\r\n"
)


async def mirror(peer):
    head = await peer.reader.readuntil(b"\r\n\r\n")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
    assert b"\r\nSec-WebSocket-Key: x\r\n" in head
    await peer.send(SWITCH + b"first")
    while data := await peer.reader.read(65536):
        await peer.send(data)
    await peer.send(b"last")


async def test_a_websocket_is_tunnelled_both_ways_and_ends_by_halves():
    async with serving(mirror) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/chat", *UPGRADE))
        head = await raw.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert re.search(rb"set-cookie: sr=", head)
        assert await raw.reader.readexactly(5) == b"first"
        endpoint = next(proxy.plane.table.endpoints())
        assert endpoint.in_flight == proxy.plane.counters.tunnels == 1
        big = bytes(range(256)) * 8192
        sending = asyncio.create_task(raw.send(big))
        assert await raw.reader.readexactly(len(big)) == big
        await sending
        raw.writer.write_eof()
        assert await raw.rest() == b"last"
        await raw.close()


async def test_a_websocket_that_the_backend_closes():
    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(SWITCH)

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/chat", *UPGRADE))
        await raw.head()
        assert await raw.rest() == b""
        await raw.close()


async def test_an_idle_websocket_is_closed():
    async with serving(mirror, timeouts=Timeouts(idle=0.5, request=0.2)) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/chat", *UPGRADE))
        await raw.head()
        with suppress(ConnectionError):
            assert await raw.rest() == b"first"
        await raw.close()


async def test_a_refused_websocket_is_an_ordinary_answer():
    async with serving(echo(lambda *_: OK)) as (proxy, _):
        raw = await proxy.connect()
        for _ in range(2):
            await raw.send(get("/chat", *UPGRADE))
            assert (await raw.answer())[1] == b"ok"
        # What a client sends before the 101 is no request, whatever it looks like.
        await raw.send(get("/chat", *UPGRADE) + get("/smuggled"))
        assert (await raw.rest()).count(b"HTTP/1.1 ") == 1
        await raw.close()


async def test_drain_lets_everything_end():
    gate = asyncio.Event()

    async def script(peer):
        while True:
            head, _ = await peer.request()
            if b"/slow" in head:
                await gate.wait()
            await peer.send(OK)

    async with serving(script) as (proxy, _):
        idle, slow = await proxy.connect(), await proxy.connect()
        await idle.send(get("/"))
        await idle.answer()
        await slow.send(get("/slow"))
        drain = asyncio.create_task(proxy.plane.drain(0.3, 5))
        await asyncio.sleep(0.1)
        # Within the delay new connections are served, and told to go.
        late = await proxy.connect()
        await late.send(get("/"))
        assert b"Connection: close\r\n" in (await late.answer())[0]
        assert await late.rest() == b""
        assert await idle.rest() == b""
        assert not drain.done()
        gate.set()
        assert b"Connection: close\r\n" in (await slow.answer())[0]
        await asyncio.wait_for(drain, 2)
        with pytest.raises(ConnectionError):
            await proxy.connect()
        for raw in (idle, slow, late):
            await raw.close()


async def test_drain_cuts_what_does_not_end():
    async def script(peer):
        await peer.request()
        await peer.read()

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/"))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(proxy.plane.drain(0, 0.2), 2)
        with suppress(ConnectionError):
            assert await raw.rest() == b""
        await raw.close()
