"""Clients and backends that go, stall or lie at the worst moment: one answer each, and nothing left over."""

import asyncio
import gc
import re
import socket
import struct
from contextlib import suppress

import pytest
from tests.component.wire.harness import (
    OK,
    Backend,
    Proxy,
    Raw,
    echo,
    endpoint,
    eventually,
    fleet,
    get,
    serving,
)

from stickyroute_api.settings import Settings, Timeouts
from stickyroute_proxy.exchange import Exchange
from stickyroute_proxy.wire import closing, listener, tunnel

MIB = 1 << 20


@pytest.fixture(autouse=True)
async def silent_loop():
    """No callback may raise, whatever the peers do."""
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    # asyncio's own streams complain when a scripted backend is cancelled.
    assert not [one for one in heard if not isinstance(one.get("exception"), asyncio.CancelledError)]


@pytest.fixture
def hurried(monkeypatch):
    """Deadlines are looked at often, and little patience is had with those who take nothing."""
    monkeypatch.setattr(listener, "TICK", 0.01)
    monkeypatch.setattr(closing, "LINGER", 0.2)
    monkeypatch.setattr(closing, "STALL", 0.2)
    monkeypatch.setattr(tunnel, "LINGER", 0.2)


def reset(raw):
    """End a connection with RST."""
    raw.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    raw.writer.transport.abort()


async def narrow(proxy):
    """A client that reads only when asked to; between it and the proxy the kernel holds next to nothing."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", proxy.port))
    reader, writer = await asyncio.open_connection(sock=plain, limit=1024)
    await eventually(proxy.plane._all_connections)
    (connection,) = proxy.plane._all_connections()
    far = connection._transport.get_extra_info("socket")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return Raw(reader, writer)


async def test_the_first_message_of_a_connection_may_be_garbage():
    async with serving(echo()) as (proxy, _):
        assert (await proxy.ask(b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        answer = await proxy.ask(get("/", "X-Request-Id: mine") + b"GET nonsense\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 400 ") == 1
        assert b"mine" not in answer.partition(b"HTTP/1.1 400 ")[2]


async def test_a_status_beyond_599_passes_and_is_counted():
    async with serving(echo(lambda *_: OK.replace(b"200 OK", b"999 Denied"))) as (proxy, _):
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 999 Denied\r\n")
        assert proxy.plane.counters.of("shop/shop", "app").classes[5] == 1


async def test_a_malformed_chunk_does_not_answer_into_an_answer():
    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await peer.read()
        await peer.read()

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/", "Transfer-Encoding: chunked", method="POST"))
        await raw.head()
        await raw.send(b"nonsense\r\n")
        assert await raw.rest() == b"5\r\nhello\r\n"
        await raw.close()


async def test_a_backend_that_hangs_up_on_connecting_is_no_answer():
    """Be it before or after the request could be written."""

    async def script(peer):
        peer.writer.transport.abort()

    async def banner(peer):
        await peer.send(b"220 mail.example.com ESMTP\r\n")

    for one in (script, banner):
        async with serving(one) as (proxy, _):
            for _ in range(20):
                assert re.match(rb"HTTP/1.1 50[23] ", await proxy.ask(get()))


@pytest.mark.parametrize("says", [b"", b"220 mail.example.com ESMTP\r\n"])
async def test_a_connection_that_is_lost_before_its_exchange_has_it(monkeypatch, says):
    """The loop may tell of the loss, or of an unasked answer, before it tells of the connection."""

    async def script(peer):
        await peer.send(says)
        if not says:
            peer.writer.transport.abort()

    connected = Exchange.connected

    def later(self, upstream):
        asyncio.get_running_loop().call_later(0.05, connected, self, upstream)

    monkeypatch.setattr(Exchange, "connected", later)
    async with serving(script) as (proxy, backend):
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 503 ")
        assert backend.connections == 1
        assert proxy.plane.counters.connect_failures == 1


async def test_an_idle_connection_that_ends_is_not_used_again():
    """Not even in the moment in which its end is known and its loss is not yet told."""
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get())
        await raw.answer()
        (one,) = proxy.plane.table.endpoints()
        (upstream,) = one.pool._idle
        upstream.eof_received()
        await raw.send(get("/", "Content-Length: 1", method="POST") + b"x")
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        assert backend.connections == 2
        await raw.close()


async def test_a_client_that_asks_and_never_reads_is_held_off():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8000\r\n\r\n" + b"x" * 8000
    async with serving(echo(lambda *_: answer)) as (proxy, backend):
        raw = await narrow(proxy)
        (connection,) = proxy.plane._all_connections()
        with suppress(TimeoutError):
            for asked in range(1, 100):
                await raw.send(get())
                async with asyncio.timeout(0.3):
                    await eventually(
                        lambda asked=asked: (
                            backend.bytes.count(b"GET / ") >= asked and not proxy.plane.counters.exchanges
                        )
                    )
        assert connection._transport.get_write_buffer_size() < 256 * 1024
        assert backend.bytes.count(b"GET / ") < 50
        reset(raw)
        await eventually(lambda: not proxy.plane.counters.open_connections)


async def test_a_client_that_never_reads_its_answers_is_cut_off(hurried):
    """It has asked for more, so that its connection is not idle, and no exchange's deadline counts."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8000\r\n\r\n" + b"x" * 8000
    async with serving(
        echo(lambda *_: answer), settings=Settings(timeouts=Timeouts(keep_alive=0.1)), timeouts={"request": 0}
    ) as (
        proxy,
        _,
    ):
        raw = await narrow(proxy)
        await raw.send(get() * 100)
        await eventually(
            lambda: proxy.plane.counters.connections and not proxy.plane.counters.open_connections
        )
        assert 1 < proxy.plane.counters.of("shop/shop", "app").classes[2] < 100
        await raw.close()


async def test_a_client_that_is_told_no_and_goes_on_sending_is_cut_off(hurried):
    async with serving(echo()) as (proxy, _):
        raw = await proxy.connect()
        with suppress(ConnectionError):
            await raw.send(b"nonsense\r\n\r\n")
            async with asyncio.timeout(10):
                while proxy.plane.counters.open_connections or not proxy.plane.counters.connections:
                    await raw.send(b"x" * 1000)
                    await asyncio.sleep(0.01)
        assert not proxy.plane.counters.open_connections
        await raw.close()


def websocket_answer(extra=b""):
    return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + extra


UPGRADE = get("/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


async def test_a_tunnel_ends_once_both_sides_have_ended():
    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(websocket_answer())
        assert await peer.read() == b""
        await peer.send(b"last")
        peer.writer.write_eof()
        await asyncio.sleep(5)

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(UPGRADE)
        await raw.head()
        raw.writer.write_eof()
        assert await raw.rest() == b"last"
        await eventually(lambda: not proxy.plane.counters.tunnels)
        await raw.close()


async def test_a_tunnel_whose_client_never_reads_holds_the_backend_off():
    """From its first moment: much can come with the 101."""
    sent = 0

    async def script(peer):
        nonlocal sent
        await peer.reader.readuntil(b"\r\n\r\n")
        peer.writer.write(websocket_answer(b"x" * (200 * 1024)))
        while True:
            await peer.send(b"x" * 65536)
            sent += 65536

    async with serving(script) as (proxy, _):
        raw = await narrow(proxy)
        await raw.send(UPGRADE)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
            assert sent < 64 * MIB
        (one,) = proxy.plane.tunnels
        assert max(end.transport.get_write_buffer_size() for end in one._ends) < MIB
        reset(raw)
        await eventually(lambda: not proxy.plane.counters.tunnels)


async def test_a_tunnel_whose_backend_is_gone_does_not_wait_for_its_client_forever(hurried):
    async with serving(None, timeouts={"idle": 0}) as (proxy, backend):

        async def script(peer):
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(websocket_answer())
            await eventually(lambda: proxy.plane.tunnels)
            (one,) = proxy.plane.tunnels
            # More than the client's side takes by itself, and not so much that the backend is held off.
            while one._ends[0].transport.get_write_buffer_size() < 32 * 1024:
                await peer.send(b"x" * 8000)
                await asyncio.sleep(0.001)
            reset(peer)

        backend.script = script
        raw = await narrow(proxy)
        await raw.send(UPGRADE)
        await eventually(lambda: proxy.plane.counters.tunnels)
        await eventually(lambda: not proxy.plane.counters.tunnels)
        await raw.close()


async def test_an_endpoint_that_left_is_not_connected_to_again():
    """What listens at its address now may be another pod."""
    asked = asyncio.Event()
    leave = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(OK)
        await peer.request()
        asked.set()
        await leave.wait()

    old = await Backend(script).start()
    new = await Backend(echo()).start()
    proxy = await Proxy().start(fleet(endpoint(old.port, "uid-a")))
    raw = await proxy.connect()
    await raw.send(get())
    head, _ = await raw.answer()
    token = head.partition(b"set-cookie: ")[2].partition(b";")[0].decode()
    await raw.send(get("/", f"Cookie: {token}"))
    await asked.wait()
    proxy.apply(fleet(endpoint(new.port, "uid-b"), revision=2))
    leave.set()
    head, _ = await raw.answer()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"set-cookie: sr=" in head
    assert old.connections == new.connections == 1
    assert b"x-session-lost: PodTerminated\r\n" in new.bytes
    await raw.close()
    await proxy.plane.drain(0, 1)
    await old.stop()
    await new.stop()
    assert [one.in_flight for one in proxy.plane.table.endpoints()] == [0]


async def test_an_endpoint_that_leaves_while_it_is_connected_to_gets_nothing(monkeypatch):
    connected = Exchange.connected
    held = []
    monkeypatch.setattr(Exchange, "connected", lambda self, upstream: held.append((self, upstream)))
    old = await Backend(echo()).start()
    new = await Backend(echo()).start()
    proxy = await Proxy().start(fleet(endpoint(old.port, "uid-a")))
    raw = await proxy.connect()
    await raw.send(get())
    await eventually(lambda: held)
    proxy.apply(fleet(endpoint(new.port, "uid-b"), revision=2))
    monkeypatch.setattr(Exchange, "connected", connected)
    connected(*held.pop())
    assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
    assert not old.bytes
    assert new.bytes
    await raw.close()
    await proxy.plane.drain(0, 1)
    await eventually(lambda: not proxy.plane.counters.upstreams)
    await old.stop()
    await new.stop()


async def test_an_upload_to_a_backend_that_ends_and_reads_no_more_fails_at_once():
    async def script(peer):
        await peer.read()
        await asyncio.sleep(0.2)
        peer.writer.write_eof()
        await asyncio.sleep(5)

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        raw.writer.write(get("/", "Content-Length: 90000000", method="POST") + b"x" * 9_000_000)
        async with asyncio.timeout(2):
            assert re.match(rb"HTTP/1.1 50[23] ", await raw.head())
        reset(raw)


@pytest.mark.parametrize("control", [b'private="set-cookie"', b"max-age=5", b"x-private-no-store"])
async def test_an_answer_with_a_token_is_always_private(control):
    answer = OK.replace(b"\r\n\r\n", b"\r\nCache-Control: " + control + b"\r\n\r\n")
    async with serving(echo(lambda *_: answer)) as (proxy, _):
        assert b"\r\nCache-Control: private\r\n" in await proxy.ask(get())
