"""What clients send: what is served, what is refused, and what of it reaches a backend."""

import asyncio
import gzip

import pytest
from tests.component.wire.harness import echo, get, serving

from stickyroute_api.settings import Limits, Settings, Timeouts

LIMITS = Limits()
MARKER = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"

REFUSED = {
    "length and chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + MARKER,
        400,
    ),
    "chunked and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        + MARKER,
        400,
    ),
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + MARKER,
        400,
    ),
    "lengths in a list": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n" + MARKER, 400),
    "signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n" + MARKER, 400),
    "two codings": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + MARKER,
        400,
    ),
    "coding twice": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + MARKER,
        400,
    ),
    "coding unknown": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" + MARKER, 400),
    "coding empty": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n" + MARKER, 400),
    "coding on 1.0": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + MARKER,
        400,
    ),
    "chunk size": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n" + MARKER,
        400,
    ),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n" + MARKER, 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n" + MARKER, 400),
    "NUL": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    "folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n" + MARKER, 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "method of no token": (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method empty": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "method too long": (b"A" * 33 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "method alone": (b"BREW\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "RTSP": (b"DESCRIBE rtsp://a/ RTSP/1.0\r\nHost: a\r\n\r\n", 505),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "Host empty": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "Host with path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "Host with user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "Host with comma": (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
    "Host with bad port": (b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400),
    "URL with user": (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "URL of no HTTP": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "target *": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "WebSocket with body": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nContent-Length: 38\r\n\r\n" + MARKER,
        400,
    ),
    "Expect unknown": (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 0\r\n\r\n", 417),
    "long target": (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long head": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * LIMITS.head_bytes + b"\r\n\r\n", 431),
    "many fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * LIMITS.head_fields + b"\r\n", 431),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_closed(name):
    sent, status = REFUSED[name]
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(sent + get("/after"))
        answers = await raw.rest()
        await raw.close()
        assert answers.startswith(b"HTTP/1.1 %d " % status), answers
        assert answers.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in answers
        # A head may have gone on before its body turned out to be none; nothing else has.
        assert b"/smuggled" not in backend.bytes
        assert b"/after" not in backend.bytes


@pytest.mark.parametrize(
    ("line", "target", "host"),
    [
        (b"GET http://Shop.Example.com:8080/a?b HTTP/1.1\r\nHost: other", b"/a?b", b"Shop.Example.com:8080"),
        (b"GET http://shop.example.com HTTP/1.1\r\nHost: other", b"/", b"shop.example.com"),
        (b"GET https://shop.example.com?x HTTP/1.1\r\nHost: other", b"/?x", b"shop.example.com"),
        (b"OPTIONS * HTTP/1.1\r\nHost: shop.example.com", b"*", b"shop.example.com"),
        (b"OPTIONS http://shop.example.com:80 HTTP/1.1\r\nHost: other", b"*", b"shop.example.com:80"),
        (b"OPTIONS http://shop.example.com/ HTTP/1.1\r\nHost: other", b"/", b"shop.example.com"),
        (b"GET /%zz//../a?? HTTP/1.1\r\nHost: [::1]:80", b"/%zz//../a??", b"[::1]:80"),
        (b"PROPFIND / HTTP/1.1\r\nHost: shop.example.com.", b"/", b"shop.example.com."),
    ],
)
async def test_targets(line, target, host):
    async with serving(echo()) as (proxy, backend):
        assert (await proxy.ask(line + b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        _, seen, headers, _ = backend.requests()[0]
        assert (seen, dict(headers)[b"host"]) == (target, host)


@pytest.mark.parametrize("upgrade", ["h2c", "websocket, h2c", "TLS/1.0", "connect-udp"])
async def test_other_upgrades_go_on_as_plain_requests(upgrade):
    lines = (
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {upgrade}",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    )
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        for _ in range(2):
            await raw.send(get("/", *lines, "Content-Length: 5", method="POST") + b"hello")
            assert (await raw.answer())[1] == b"hello"
        await raw.close()
        for _, _, fields, _ in backend.requests():
            assert not {b"connection", b"upgrade", b"http2-settings"} & {name for name, _ in fields}


@pytest.mark.parametrize("method", ["BREW", "get", "GETS", "PRI", "DESCRIBE", "M!#$%&'*+-.^_`|~0", "X" * 32])
async def test_any_method_goes_on(method):
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        for line in ("X: 1", "X: 1", "X: 2"):
            await raw.send(get("/", line, "Content-Length: 5", method=method) + b"hello")
            assert (await raw.answer())[1] == b"hello"
        await raw.close()
        assert [request[0] for request in backend.requests()] == [method.encode()] * 3


async def test_what_is_refused_says_what_would_be_served():
    async with serving(echo()) as (proxy, _):
        answer = await proxy.ask(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" in answer
        # An answer to HEAD has no body, even where the request cannot be served.
        answer = await proxy.ask(b"HEAD / HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"\r\n\r\n")


async def test_limits_are_the_fleets_settings():
    limits = Limits(head_bytes=1024, head_fields=8, target_bytes=256)
    async with serving(echo()) as (proxy, _):
        table = proxy.plane.table
        update = {"settings": Settings(limits=limits), "revision": 2}
        proxy.apply(table.snapshot.model_copy(update=update))
        for sent, status in (
            (get("/" + "a" * 255), 200),
            (get("/" + "a" * 256), 414),
            (get("/", *["X: y"] * 7), 200),
            (get("/", *["X: y"] * 8), 431),
            (get("/", "X: " + "y" * 1024), 431),
        ):
            assert (await proxy.ask(sent)).startswith(b"HTTP/1.1 %d " % status)


async def test_compressed_bodies_pass_as_they_are():
    packed = gzip.compress(b"hello" * 1000, mtime=0)

    def reply(_, body):
        return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    async with serving(echo(reply)) as (proxy, backend):
        raw = await proxy.connect()
        sent = get("/", "Content-Encoding: gzip", f"Content-Length: {len(packed)}", method="POST")
        await raw.send(sent + packed)
        head, body = await raw.answer()
        await raw.close()
        assert b"\r\nContent-Encoding: gzip\r\n" in head
        assert body == backend.requests()[0][3] == packed


async def test_pipelined_requests_are_answered_in_order_and_one_by_one():
    def reply(head, body):
        path = head.split(b" ")[1]
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path)

    async with serving(echo(reply), settings=Settings(limits=Limits(pipelined=200))) as (proxy, backend):
        sent = b"".join(
            get(f"/{i}")
            if i % 3
            else get(f"/{i}", "Transfer-Encoding: chunked", method="POST") + b"1\r\na\r\n0\r\n\r\n"
            for i in range(200)
        )
        raw = await proxy.connect()
        await raw.send(sent)
        for i in range(200):
            assert (await raw.answer())[1] == b"/%d" % i
        await raw.close()
        assert backend.connections == 1


MESSAGES = {
    "get": get("/", "Cookie: a=b"),
    "post": get("/", "Content-Length: 5", method="POST") + b"hello",
    "chunked": get("/", "Transfer-Encoding: chunked", method="POST")
    + b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
    "upgrade with a body": get("/", "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 5", method="POST")
    + b"hello",
    "upgrade with chunks": get(
        "/", "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked", method="POST"
    )
    + b"5\r\nhello\r\n0\r\n\r\n",
    "empty lines before": b"\r\n\r\n" + get("/"),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_any_segmentation_means_the_same(name):
    message = MESSAGES[name]
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(message)
        whole = (await raw.answer())[1]
        for cut in range(1, len(message)):
            await raw.send(message[:cut])
            await asyncio.sleep(0.001)
            await raw.send(message[cut:])
            assert (await raw.answer())[1] == whole
        for byte in message:
            await raw.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await raw.answer())[1] == whole
        await raw.close()
        requests = backend.requests()
        assert len(requests) == len(message) + 1

        def plain(request):
            method, target, headers, body = request
            return method, target, [field for field in headers if field[0] != b"x-request-id"], body

        assert all(plain(request) == plain(requests[0]) for request in requests)
        assert requests[0][3] == whole


async def test_http10():
    async with serving(echo()) as (proxy, backend):
        answer = await proxy.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in answer
        raw = await proxy.connect()
        for _ in range(2):
            await raw.send(get("/", "Connection: keep-alive", version="1.0"))
            head, _ = await raw.answer()
            assert b"Connection: keep-alive\r\n" in head
        await raw.close()
        assert dict(backend.requests()[0][2])[b"host"] == b"127.0.0.1:%d" % backend.port


async def test_a_head_that_trickles_is_given_up():
    async with serving(echo(), settings=Settings(timeouts=Timeouts(head=0.3))) as (proxy, _):
        raw = await proxy.connect()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        answer = await raw.rest()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert loop.time() - began < 2
        await raw.close()


async def test_no_table_no_route_no_endpoint():
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        table, proxy.plane.table = proxy.plane.table, None
        await raw.send(get("/", "Accept: application/json"))
        head, body = await raw.answer()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in head
        assert b'"status": 503' in body
        proxy.plane.table = table
        given = table.snapshot
        proxy.apply(given.model_copy(update={"endpoints": {"shop/web:80": ()}, "revision": 2}))
        await raw.send(get("/", "Accept: text/html,*/*;q=0.8"))
        head, body = await raw.answer()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"<h1>503 " in body
        proxy.apply(given.model_copy(update={"routes": {}, "revision": 3}))
        await raw.send(get("/"))
        assert (await raw.head()).startswith(b"HTTP/1.1 404 ")
        await raw.close()
        assert not backend.connections


async def test_an_answer_to_head_has_no_body():
    """Not even when the request had one, nor when it is refused."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with serving(echo(lambda *_: answer)) as (proxy, _):
        sent = get("/", "Content-Length: 2", method="HEAD") + b"ok" + get("/#", method="HEAD")
        first, second, rest = (await proxy.ask(sent)).split(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 400 ")
        assert not rest


async def test_a_trailer_ends_no_connection():
    message = get("/", "Transfer-Encoding: chunked", method="POST") + b"0\r\nConnection: close\r\n\r\n"
    async with serving(echo()) as (proxy, _):
        assert (await proxy.ask(message + get())).count(b"HTTP/1.1 200 ") == 2
