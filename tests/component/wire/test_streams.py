"""Bodies of any size, tunnels, and the end."""

import asyncio
import hashlib
import re
from contextlib import suppress

import pytest
from tests.component.wire.harness import OK, echo, eventually, get, serving

from stickyroute_api.snapshot import Timeouts

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


async def test_events_flow_as_they_come():
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(3):
            await peer.send(b"data: %d\n\n" % i)
            await asyncio.sleep(0.1)

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/"))
        head = await raw.head()
        assert b"set-cookie: sr=" in head
        for i in range(3):
            assert (await raw.reader.readuntil(b"\n\n\r\n")).endswith(b"data: %d\n\n\r\n" % i)
        assert await raw.reader.readexactly(5) == b"0\r\n\r\n"
        await raw.close()


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
