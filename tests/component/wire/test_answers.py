"""What backends answer, in order and out of it: one whole answer or one clear error."""

import asyncio
import re
import time
from email.utils import parsedate_to_datetime

import h11
import pytest
from tests.component.wire.harness import OK, echo, get, serving

from stickyroute_api.snapshot import Timeouts


def once(*sent, close=True):
    """A script that sends these pieces for its first request, then the connection's end."""

    async def script(peer):
        await peer.request()
        for piece in sent:
            await peer.send(piece)
            await asyncio.sleep(0.01)
        if not close:
            await peer.read()

    return script


def read(data, method="GET"):
    """What h11 reads: (status, headers, body); raises where it finds fault or no end."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return response.status_code, dict(response.headers), body


WHOLE = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\nT: 1\r\n\r\n",
        b"hello",
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    "HTTP/1.0": (b"HTTP/1.0 200 Fine\r\n\r\nhello", b"hello"),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: a\r\n\r\n", b""),
    "early hints": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_any_segmentation_is_the_same_answer(name):
    answer, body = WHOLE[name]
    cuts = iter(range(len(answer)))

    async def script(peer):
        await peer.request()
        cut = next(cuts)
        await peer.send(answer[:cut])
        await asyncio.sleep(0.002)
        await peer.send(answer[cut:])

    async with serving(script) as (proxy, _):
        seen = set()
        for _ in answer:
            raw = await proxy.connect()
            await raw.send(get("/", "Connection: close"))
            data = await raw.rest()
            await raw.close()
            assert data.startswith(b"HTTP/1.1 ")
            status, headers, got = read(data)
            for changing in (b"set-cookie", b"connection", b"date"):
                headers.pop(changing, None)
            seen.add((status, got, tuple(sorted(headers.items()))))
        assert len(seen) == 1
        assert next(iter(seen))[1] == body
        assert (b"103 Early" in data) == (name == "early hints")


async def test_one_byte_a_packet():
    answer, body = WHOLE["chunks"]
    async with serving(once(*(bytes((byte,)) for byte in answer))) as (proxy, _):
        assert read(await proxy.ask(get("/", "Connection: close")))[2] == body


BROKEN = {
    "nothing": b"",
    "part of a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "garbage": b"SSH-2.0-OpenSSH\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
    "two lengths alike": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na",
    "101 that nobody asked for": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\na",
    "head without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40000,
}


@pytest.mark.parametrize("name", BROKEN)
async def test_no_answer_is_502_and_a_post_goes_out_once(name):
    async with serving(once(BROKEN[name])) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 1", method="POST") + b"a")
        head, _ = await raw.answer()
        assert head.startswith(b"HTTP/1.1 502 "), head
        assert backend.connections == 1
        # The client's connection is sound and lives on.
        await raw.send(get("/"))
        assert (await raw.head()).startswith(b"HTTP/1.1 502 ")
        await raw.close()


CUT = {
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "before the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
}


@pytest.mark.parametrize("name", CUT)
async def test_a_cut_answer_is_seen_as_cut(name):
    head, _, body = CUT[name].partition(b"\r\n\r\n")
    async with serving(once(head + b"\r\n\r\n", body)) as (proxy, backend):
        data = await proxy.ask(get("/"))
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises(h11.RemoteProtocolError):
            read(data)
        assert backend.connections == 1
        if "chunk" in name:
            # Only a reset tells an HTTP/1.0 client that there was more.
            with pytest.raises(ConnectionResetError):
                await proxy.ask(get("/", version="1.0"))


async def test_head_has_no_body_and_the_connection_is_used_again():
    def reply(head, _):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        return answer if head.startswith(b"HEAD") else answer + b"hello"

    async with serving(echo(reply)) as (proxy, backend):
        raw = await proxy.connect()
        for _ in range(3):
            await raw.send(get("/", method="HEAD"))
            assert b"\r\nContent-Length: 5\r\n" in await raw.head()
            await raw.send(get("/"))
            assert (await raw.answer())[1] == b"hello"
        await raw.close()
        assert backend.connections == 1


async def test_an_answer_without_a_date_gets_one():
    date = b""

    async with serving(echo(lambda *_: b"HTTP/1.1 200 OK\r\n%bContent-Length: 0\r\n\r\n" % date)) as (
        proxy,
        _,
    ):
        raw = await proxy.connect()
        await raw.send(get("/"))
        given = re.findall(rb"\r\nDate: (.*)\r\n", await raw.head())
        assert len(given) == 1
        assert abs(parsedate_to_datetime(given[0].decode()).timestamp() - time.time()) < 5
        date = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        await raw.send(get("/"))
        assert re.findall(rb"(?i)\r\n(date: .*\r\n)", await raw.head()) == [date]
        await raw.close()


async def test_expect_is_the_backends_to_answer():
    async def script(peer):
        head = await peer.reader.readuntil(b"\r\n\r\n")
        assert b"\r\nExpect: 100-continue\r\n" in head
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.reader.readexactly(5) == b"hello"
        await peer.send(OK)
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        sent = get("/", "Content-Length: 5", "Expect: 100-continue", method="POST")
        await raw.send(sent)
        assert await raw.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await raw.send(b"hello")
        assert (await raw.answer())[1] == b"ok"
        await raw.send(sent)
        assert (await raw.head()).startswith(b"HTTP/1.1 417 No\r\n")
        await raw.close()


async def test_the_cookie_is_kept_from_shared_caches():
    control = b"public"

    def reply(*_):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Control: %b\r\n\r\n" % control

    async with serving(echo(reply)) as (proxy, _):
        for control, given, private in (
            (b"public, max-age=1", False, False),
            (b"s-maxage=1", False, False),
            (b"max-age=1", True, True),
            (b"private", True, False),
            (b"no-store", True, False),
        ):
            raw = await proxy.connect()
            await raw.send(get("/"))
            head = await raw.head()
            await raw.close()
            assert (b"set-cookie" in head) == given
            assert (b"\r\nCache-Control: private\r\n" in head) == (private or control == b"private")


async def test_a_stalled_backend_is_504_and_after_the_head_a_cut():
    async def silent(peer):
        await peer.request()
        await peer.read()

    timeouts = Timeouts(request=0.4)
    async with serving(silent, timeouts=timeouts) as (proxy, _):
        assert (await proxy.ask(get("/"))).startswith(b"HTTP/1.1 504 ")
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 10", method="POST") + b"part")
        assert (await raw.rest()).startswith(b"HTTP/1.1 408 ")
        await raw.close()
    async with serving(
        once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe", close=False), timeouts=timeouts
    ) as (
        proxy,
        _,
    ):
        data = await proxy.ask(get("/"))
        assert data.endswith(b"\r\n\r\nhe")


@pytest.mark.parametrize(
    ("field", "sticky"),
    [
        (b"CDN-Cache-Control: max-age=60", False),
        (b"Example-CDN-Cache-Control: max-age=60", False),
        (b"Surrogate-Control: max-age=60", False),
        (b"CDN-Cache-Control: no-store", True),
        (b'Cache-Control: max-age=60, x="a, private, b"', True),
    ],
)
async def test_no_shared_cache_may_keep_our_cookie(field, sticky):
    """Not by the words that CDNs have for themselves (RFC 9213), nor by what only looks like `private`."""
    answer = OK.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n")
    async with serving(echo(lambda *_: answer)) as (proxy, _):
        head = await proxy.ask(get())
        assert (b"\r\nset-cookie: " in head) == (b"\r\nCache-Control: private\r\n" in head) == sticky
