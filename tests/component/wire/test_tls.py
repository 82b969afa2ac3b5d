"""TLS with clients: HTTP over it loses nothing."""

import asyncio
import gc
import os
import ssl
from contextlib import suppress

import pytest
from tests.component.wire.harness import OK, Raw, echo, eventually, get
from tests.component.wire.securely import connect, half_closing, serving_tls, trusting

from stickyroute_proxy.exchange import Exchange
from stickyroute_proxy.wire.downstream import Downstream
from stickyroute_proxy.wire.opening import Opening
from stickyroute_proxy.wire.secure import Secure

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_bodies_of_any_size_pass_both_ways(version):
    body = os.urandom(3_000_000)
    sent = get("/", f"Content-Length: {len(body)}", "Cookie: a=b", method="POST") + body
    async with serving_tls(echo()) as (proxy, backend):
        context = trusting()
        context.maximum_version = version
        raw = await connect(proxy.https, context=context)
        for number in range(3):
            raw.writer.write(sent)
            head, answered = await raw.answer()
            assert answered == body
            assert b"; Secure" in head, number
        await raw.close()
        assert [request[3] for request in backend.requests()] == [body] * 3


async def test_a_client_that_does_not_read_holds_the_backend_back():
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        with suppress(TimeoutError):
            for _ in range(50):
                async with asyncio.timeout(0.3):
                    await peer.send(b"x" * 1_000_000)
                peer.sent = getattr(peer, "sent", 0) + 1
        sent.append(getattr(peer, "sent", 0))

    sent = []
    async with serving_tls(script) as (proxy, _):
        raw = await connect(proxy.https)
        raw.writer.transport.pause_reading()
        await raw.send(get())
        await eventually(lambda: sent)
        assert sent[0] < 40
        raw.writer.transport.abort()


async def test_a_websocket_passes_both_ways_and_each_side_may_end_first():
    async def script(peer):
        head, _ = await peer.request()
        await peer.send(SWITCH + b"early")
        if b"/server-first" in head:
            peer.writer.write_eof()
        while data := await peer.read():
            if b"/server-first" not in head:
                await peer.send(data[::-1])
        if b"/server-first" not in head:
            await peer.send(b"bye")

    async with serving_tls(script) as (proxy, backend):
        client = await half_closing(proxy.https)
        client.write(get("/", *UPGRADE))
        assert (await client.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await client.readexactly(5) == b"early"
        message = os.urandom(200_000)
        client.write(message)
        answered = b"".join([await client.readexactly(200_000)])
        assert sorted(answered) == sorted(message)
        client.write_eof()
        assert await client.read() == b"bye"
        assert client.clean
        await client.close()

        client = await half_closing(proxy.https)
        client.write(get("/server-first", *UPGRADE))
        await client.readuntil(b"\r\n\r\n")
        assert await client.read() == b"early"
        assert client.clean
        client.write(b"still")
        client.write(b"here")
        client.write_eof()
        await eventually(lambda: backend.bytes.endswith(b"stillhere"))
        await eventually(lambda: not proxy.plane.counters.tunnels)
        await client.close()


async def test_a_websocket_client_that_ends_its_half_before_the_101_is_seen_to_have_ended():
    ended = asyncio.Event()

    async def script(peer):
        await peer.request()
        await ended.wait()
        await peer.send(SWITCH)
        assert not await peer.read()
        await peer.send(b"bye")

    async with serving_tls(script) as (proxy, _):
        client = await half_closing(proxy.https)
        client.write(get("/", *UPGRADE))
        client.write_eof()
        (connection,) = proxy.plane._all_connections()
        await eventually(lambda: connection._eof)
        ended.set()
        assert (await client.read()).endswith(b"\r\n\r\nbye")
        assert client.clean
        await client.close()


async def test_a_client_may_close_its_half_and_still_gets_the_answer():
    async def script(peer):
        await peer.request()
        await asyncio.sleep(0.1)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)

    async with serving_tls(script) as (proxy, _):
        client = await half_closing(proxy.https)
        client.write(get())
        client.write_eof()
        answer = await client.read()
        assert answer.endswith(b"x" * 300_000)
        assert client.clean
        await client.close()


async def test_a_connection_that_the_proxy_ends_says_so():
    async def script(peer):
        head, _ = await peer.request()
        if b"/cut" in head:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\nx")
        else:
            await peer.send(b"HTTP/1.0 200 OK\r\n\r\nall")

    async with serving_tls(script, script) as (proxy, *_):
        for sent, clean in (
            (get("/", "Connection: close"), True),
            (get("/", version="1.0"), True),
            (b"nonsense\r\n\r\n", True),
            (get("/", "Content-Length: 90", "Expect: x", method="POST") + b"early", True),
            (get("/cut", version="1.0"), True),  # told by its length
        ):
            client = await half_closing(proxy.https)
            client.write(sent)
            assert (await client.read()).startswith(b"HTTP/1.1 ")
            assert client.clean is clean, sent
            await client.close()


async def test_an_answer_without_a_length_that_breaks_off_is_no_clean_end():
    """An HTTP/1.0 client knows the end of such an answer by close_notify alone."""

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

    async with serving_tls(script) as (proxy, _):
        client = await half_closing(proxy.https)
        client.write(get("/", version="1.0"))
        with suppress(ConnectionError):
            await client.read()
        assert not client.clean
        await client.close()


async def test_a_client_that_is_cut_off_ends_its_exchange():
    asked = asyncio.Event()

    async def script(peer):
        await peer.request()
        asked.set()
        await peer.read()

    async with serving_tls(script) as (proxy, _):
        raw = await connect(proxy.https)
        await raw.send(get())
        await asked.wait()
        raw.writer.transport.abort()
        await eventually(lambda: not proxy.plane.counters.exchanges)
        assert not proxy.plane.counters.open_connections


async def test_a_broken_record_ends_the_connection():
    async with serving_tls(echo()) as (proxy, backend):
        client = await half_closing(proxy.https)
        client.write(get("/one"))
        await client.readuntil(b"\r\n\r\n")
        client.writer.write(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        client.write(get("/two"))
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            await client.read()
        await eventually(lambda: not proxy.plane.counters.open_connections)
        assert b"/two" not in backend.bytes
        await client.close()


async def test_draining_lets_requests_end_and_drops_what_has_not_begun():
    asked = asyncio.Event()

    async def script(peer):
        await peer.request()
        asked.set()
        await asyncio.sleep(0.3)
        await peer.send(OK)

    async with serving_tls(script) as (proxy, _):
        waiting, idle, busy = (
            Raw(*await asyncio.open_connection("127.0.0.1", proxy.https)),
            await connect(proxy.https),
            await connect(proxy.https),
        )
        await busy.send(get())
        await asked.wait()
        draining = asyncio.ensure_future(proxy.plane.drain(0, 5))
        assert await waiting.rest() == await idle.rest() == b""
        head, body = await busy.answer()
        assert (body, b"\r\nConnection: close\r\n" in head) == (b"ok", True)
        await draining
        for raw in (waiting, idle, busy):
            await raw.close()


async def test_connections_leave_nothing_to_the_collector():
    """Collections are rare: what only they could free would pile up in between."""
    async with serving_tls(echo()) as (proxy, _):

        async def pass_through():
            client = await half_closing(proxy.https)
            client.write(get("/", "Connection: close"))
            await client.read()
            await client.close()
            raw = Raw(*await asyncio.open_connection("127.0.0.1", proxy.https))
            await raw.send(b"nonsense")
            with suppress(ConnectionError):
                await raw.rest()
            await raw.close()
            await eventually(lambda: not proxy.plane.counters.open_connections)

        def left():
            return sum(isinstance(one, Secure | Opening | Downstream | Exchange) for one in gc.get_objects())

        await pass_through()
        gc.collect()
        gc.disable()
        try:
            before = left()
            for _ in range(5):
                await pass_through()
            assert left() == before
        finally:
            gc.enable()
