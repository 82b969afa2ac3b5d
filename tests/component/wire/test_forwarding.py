"""What a request tells of where it came from: whose word is believed, and what goes on to a backend."""

import asyncio

import pytest
from tests.component.wire.harness import echo, fleet, get, serving

from stickyroute_api.settings import Settings


async def test_fields_that_are_ours_cannot_be_sent():
    sent = get(
        "/",
        "Connection: close, X-Secret, Cookie, Host, X-Forwarded-For",
        "X-Secret: 1",
        "Cookie: a=1; sr=forged; b=2",
        "Cookie: sr=x",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Port: 1",
        "X_Forwarded_For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "X-Session-Lost: PodTerminated",
        "x_session_lost: PodTerminated",
        "Content_Length: 9",
        "Keep-Alive: 5",
        "Proxy-Connection: x",
        "TE: gzip, Trailers",
        "Upgrade: h2c",
        "HTTP2-Settings: x",
        "X-Odd: \xe9",
        "x-odd: two",
    )
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(sent)
        headers = backend.requests()[0][2]
        fields = dict(headers)
        identity = fields.pop(b"x-request-id")
        assert len(identity) == 24
        assert headers.count((b"x-odd", "\xe9".encode())) == headers.count((b"x-odd", b"two")) == 1
        fields.pop(b"x-odd")
        assert fields == {
            b"host": b"shop.example.com",
            b"connection": b"TE",
            b"te": b"trailers",
            b"cookie": b"a=1; b=2",
            b"x-forwarded-for": b"127.0.0.1",
            b"x-forwarded-proto": b"http",
            b"x-forwarded-host": b"shop.example.com",
            b"x-real-ip": b"127.0.0.1",
            b"forwarded": b'for=127.0.0.1;host="shop.example.com";proto=http',
        }


async def test_a_trusted_peers_forwarding_fields_are_continued():
    async with serving(echo()) as (proxy, backend):
        lines = ("X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "Forwarded: for=1.1.1.1")
        await proxy.ask(get("/", *lines))
        table = proxy.plane.table
        settings = Settings(trusted_proxies=("127.0.0.0/8",))
        proxy.apply(table.snapshot.model_copy(update={"settings": settings, "revision": 2}))
        await proxy.ask(get("/", *lines))
        first, second = (dict(request[2]) for request in backend.requests())
        assert first[b"x-forwarded-for"] == b"127.0.0.1"
        assert second[b"x-forwarded-for"] == b"1.1.1.1, 127.0.0.1"
        assert second[b"x-forwarded-proto"] == b"https"
        assert second[b"forwarded"].startswith(b"for=1.1.1.1, for=127.0.0.1;")


async def test_a_request_id_is_a_trusted_peers_or_ours_and_a_trace_goes_on():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    lines = ("X-Request-Id: theirs", f"traceparent: {trace}", "tracestate: a=1,b=2")
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(get("/", *lines))
        settings = Settings(trusted_proxies=("127.0.0.1",))
        proxy.apply(proxy.plane.table.snapshot.model_copy(update={"settings": settings, "revision": 2}))
        await proxy.ask(get("/", *lines) + get("/", *lines))
        ours, *theirs = (dict(request[2]) for request in backend.requests())
        assert len(ours[b"x-request-id"]) == 24
        assert [request[b"x-request-id"] for request in theirs] == [b"theirs", b"theirs"]
        for request in (ours, *theirs):
            assert (request[b"traceparent"], request[b"tracestate"]) == (trace.encode(), b"a=1,b=2")


@pytest.mark.parametrize(("proto", "secure"), [("https", True), ("http", False), ("https, http", False)])
async def test_the_cookie_is_secure_where_a_trusted_proxy_spoke_tls(proto, secure):
    async with serving(echo()) as (proxy, _):
        asked = get("/", f"X-Forwarded-Proto: {proto}")
        assert b"; Secure" not in await proxy.ask(asked)
        settings = Settings(trusted_proxies=("127.0.0.0/8",))
        proxy.apply(proxy.plane.table.snapshot.model_copy(update={"settings": settings, "revision": 2}))
        assert (b"; Secure" in await proxy.ask(asked)) is secure


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        (b"OPTIONS", b"3", b"2"),
        (b"OPTIONS", b"01", b"0"),
        (b"OPTIONS", b"many", b"many"),
        (b"GET", b"0", b"0"),
    ],
)
async def test_max_forwards_counts_down_with_options(method, given, told):
    async with serving(echo()) as (proxy, backend):
        request = method + b" / HTTP/1.1\r\nHost: shop.example.com\r\nMax-Forwards: " + given + b"\r\n\r\n"
        raw = await proxy.connect()
        for _ in range(2):
            await raw.send(request)
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        await raw.close()
        for _, _, fields in [message[:3] for message in backend.requests()]:
            assert [value for name, value in fields if name == b"max-forwards"] == [told]


async def test_options_that_may_go_no_further_is_answered_here():
    async with serving(echo()) as (proxy, backend):
        answer = await proxy.ask(b"OPTIONS * HTTP/1.1\r\nHost: shop.example.com\r\nMax-Forwards: 0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nAllow: GET, " in answer
        assert not backend.bytes


async def test_an_endpoint_by_ipv6_is_the_authority_of_a_client_that_named_none():
    async with serving(echo()) as (proxy, backend):
        server = await asyncio.start_server(backend._serve, "::1", 0)
        port = server.sockets[0].getsockname()[1]
        (one,) = proxy.plane.table.snapshot.endpoints["shop/web:80"]
        proxy.apply(fleet(one.model_copy(update={"address": "::1", "port": port}), revision=2))
        assert (await proxy.ask(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        authority = b"[::1]:%d" % port
        assert b"\r\nHost: %b\r\n" % authority in backend.bytes
        assert b'host="%b"' % authority in backend.bytes
        server.close()


async def test_trust_that_changes_holds_for_connections_that_are_open():
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        given = proxy.plane.table.snapshot
        for revision, trusted, client in (
            (2, (), b"127.0.0.1"),
            (3, ("127.0.0.0/8",), b"192.0.2.9, 127.0.0.1"),
            (4, ("10.0.0.0/8",), b"127.0.0.1"),
            (5, ("127.0.0.1/32",), b"192.0.2.9, 127.0.0.1"),
        ):
            settings = given.settings.model_copy(update={"trusted_proxies": trusted})
            proxy.apply(given.model_copy(update={"settings": settings, "revision": revision}))
            await raw.send(get("/", "X-Forwarded-For: 192.0.2.9", "X-Request-Id: theirs"))
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
            fields = dict(backend.requests()[-1][2])
            assert fields[b"x-forwarded-for"] == client
            assert (fields[b"x-request-id"] == b"theirs") is (b"192.0.2.9" in client)
        await raw.close()
        assert backend.connections == 1
