"""Everything that can be waited for has its time, and who runs out of it is told which."""

import asyncio
import re
import socket
from contextlib import suppress

import pytest
from tests.component.wire.harness import OK, Raw, echo, eventually, get, serving
from tests.component.wire.test_attack_states import narrow

from stickyroute_api import settings
from stickyroute_api.snapshot import Limits, Retries, Timeouts
from stickyroute_proxy.wire import closing, listener


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Deadlines are looked at often."""
    monkeypatch.setattr(listener, "TICK", 0.01)
    monkeypatch.setattr(closing, "LINGER", 0.2)


async def silent(peer):
    """A backend that takes everything and never answers."""
    while await peer.read():
        pass


async def closed_after(raw):
    """What comes until the end, and how long that takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    data = b""
    with suppress(ConnectionError):
        data = await raw.rest()
    return data, loop.time() - began


async def test_the_head():
    given = settings.Settings(timeouts=settings.Timeouts(head=0.2))
    async with serving(echo(), settings=given) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(b"GET / HTTP/1.1\r\n")
        for _ in range(4):  # that something comes is not enough
            await asyncio.sleep(0.05)
            with suppress(ConnectionError):
                await raw.send(b"X: y\r\n")
        data, _ = await closed_after(raw)
        assert data.startswith(b"HTTP/1.1 408 ")
        assert b"within the head timeout (0.2 s)" in data
        assert not backend.connections
        await raw.close()


async def test_a_connection_without_a_request():
    given = settings.Settings(timeouts=settings.Timeouts(keep_alive=0.1))
    async with serving(echo(), settings=given) as (proxy, _):
        fresh, used = await proxy.connect(), await proxy.connect()
        await used.send(get())
        await used.answer()
        for raw in (fresh, used):
            assert (await closed_after(raw))[0] == b""
            await raw.close()


async def test_between_two_parts_of_the_body():
    async with serving(silent, timeouts=Timeouts(body_idle=0.3)) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 100", method="POST"))
        for _ in range(4):  # longer than the timeout in all
            await asyncio.sleep(0.15)
            await raw.send(b"x")
        data, seconds = await closed_after(raw)
        assert data.startswith(b"HTTP/1.1 408 ")
        assert b"no further part of the request's body came within the body-idle timeout (0.3 s)" in data
        assert seconds > 0.2
        assert backend.bytes.endswith(b"\r\n\r\nxxxx")
        await raw.close()


async def test_not_while_the_client_is_held_off():
    """The endpoint is slow, and the client may send no more: that is not the client's fault."""
    go = asyncio.Event()

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await go.wait()
        assert len(await peer.reader.readexactly(20_000_000)) == 20_000_000
        await peer.send(OK)

    async with serving(script, timeouts=Timeouts(body_idle=0.2)) as (proxy, _):
        raw = await proxy.connect()
        sending = asyncio.create_task(
            raw.send(get("/", "Content-Length: 20000000", method="POST") + b"x" * 20_000_000)
        )
        await asyncio.sleep(0.6)
        assert not sending.done()
        go.set()
        assert (await raw.answer())[1] == b"ok"
        await sending
        await raw.close()


async def test_an_endpoint_that_takes_no_more_of_the_body():
    """The whole request's time bounds it, and without that the body's."""

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(5)

    for timeouts, told in (
        (Timeouts(request=0, body_idle=0.2), b"504 .*took no further part .* within the body-idle timeout"),
        (Timeouts(request=0.4, body_idle=0.2), b"408 .* within the request timeout"),
    ):
        async with serving(script, timeouts=timeouts) as (proxy, _):
            raw = await proxy.connect()
            raw.writer.write(get("/", "Content-Length: 20000000", method="POST") + b"x" * 20_000_000)
            data, _ = await closed_after(raw)
            assert re.search(told, data, re.DOTALL)
            raw.writer.transport.abort()


async def test_the_first_byte():
    async with serving(silent, timeouts=Timeouts(first_byte=0.2)) as (proxy, backend):
        for sent in (get(), get("/", "Content-Length: 1", method="POST") + b"x"):
            raw = await proxy.connect()
            await raw.send(sent)
            head, body = await raw.answer()
            assert head.startswith(b"HTTP/1.1 504 ")
            assert b"the endpoint did not begin to answer within the first-byte timeout (0.2 s)" in body
            await raw.close()
        assert backend.connections == 2


async def test_the_first_byte_counts_from_the_end_of_the_request_and_ends_with_the_head():
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await asyncio.sleep(0.5)
        await peer.send(b"ok")

    async with serving(script, timeouts=Timeouts(first_byte=0.2)) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 1", method="POST"))
        await asyncio.sleep(0.4)
        await raw.send(b"x")
        assert (await raw.answer())[1] == b"ok"
        await raw.close()


async def test_the_whole():
    async with serving(silent, timeouts=Timeouts(request=0.2)) as (proxy, _):
        for sent, told in (
            (get(), b"504 .*the endpoint did not answer within the request timeout .0.2 s"),
            (
                get("/", "Content-Length: 9", method="POST") + b"x",
                b"408 .*the request did not come to its end within the request timeout .0.2 s",
            ),
        ):
            raw = await proxy.connect()
            await raw.send(sent)
            assert re.search(told, b"".join(await raw.answer()), re.DOTALL)
            await raw.close()


async def test_a_connection_to_the_endpoint(monkeypatch):
    """A full backlog takes no connection, and refuses none."""
    from stickyroute_proxy.wire.connect import Connect

    async def never(self, loop, endpoint):
        await asyncio.sleep(5)

    monkeypatch.setattr(Connect, "_run", never)
    for attempts, count in ((0, 1), (1, 1)):
        async with serving(echo(), timeouts=Timeouts(connect=0.1), retries=Retries(attempts=attempts)) as (
            proxy,
            _,
        ):
            data = await proxy.ask(get())
            if attempts:
                assert data.startswith(b"HTTP/1.1 503 ")  # there is no other to try
            else:
                assert data.startswith(b"HTTP/1.1 504 ")
                assert b"the endpoint took no connection within the connect timeout (0.1 s)" in data
            assert proxy.plane.counters.connect_failures == count


@pytest.mark.parametrize("request_timeout", [0.5, 0])
async def test_a_client_that_does_not_take_its_answer(request_timeout):
    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n")
        while True:
            await peer.send(b"x" * 65536)

    timeouts = Timeouts(request=request_timeout, body_idle=0.3)
    async with serving(script, timeouts=timeouts) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get())
        await raw.head()
        await eventually(lambda: not proxy.plane.counters.exchanges)
        raw.writer.transport.abort()


async def test_a_client_that_takes_its_answer_slowly_may():
    size = 6_000_000

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

    async with serving(script, timeouts=Timeouts(request=0, body_idle=0.3)) as (proxy, _):
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", proxy.port))
        raw = Raw(*await asyncio.open_connection(sock=plain))
        await raw.send(get())
        await raw.head()
        left = size
        while left:
            data = await raw.reader.read(400_000)
            assert data, f"cut with {left} bytes to go"
            left -= len(data)
            await asyncio.sleep(0.05)
        await raw.close()


async def test_room_on_an_endpoint():
    limits = Limits(requests_per_endpoint=1, queue_timeout=0.2)
    async with serving(silent, limits=limits) as (proxy, backend):
        first, second = await proxy.connect(), await proxy.connect()
        await first.send(get())
        await eventually(lambda: backend.bytes)
        await second.send(get())
        head, body = await second.answer()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in head
        assert b"within the queue timeout (0.2 s)" in body
        assert proxy.plane.counters.shed == {"QueueTimeout": 1}
        await first.close()
        await second.close()


async def test_a_client_that_does_not_take_what_comes_before_its_answer():
    """Its pod is not read any more, and its place there must not be kept for ever."""
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: <%b>\r\n\r\n" % (b"x" * 30_000)

    async def script(peer):
        await peer.request()
        await peer.send(hint * 32)
        await peer.read()

    given = Timeouts(body_idle=0.3, request=0)
    async with serving(script, timeouts=given) as (proxy, _):
        raw = await narrow(proxy)
        await raw.send(get())
        await eventually(lambda: any(one._full for one in proxy.plane._all_connections()))
        await eventually(lambda: proxy.plane.counters.exchanges == 0, seconds=3)
        raw.writer.transport.abort()
