"""The PROXY protocol before HTTP and before TLS: who may speak it, and what it makes of the client."""

import asyncio
from contextlib import suppress
from ipaddress import ip_address

import pytest
from tests.component.wire.harness import Raw, echo, eventually, get
from tests.component.wire.securely import HalfClosing, serving_tls, trusting

from stickyroute_api.settings import Settings, Timeouts

LINE = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
BINARY = (
    SIGNATURE
    + b"\x21\x21\x00\x2a"
    + ip_address("2001:db8::1").packed
    + ip_address("::1").packed
    + b"\x12\x34\x01\xbb"
    + b"\x04\x00\x03abc"
)
UNKNOWN = b"PROXY UNKNOWN\r\n"


def use(proxy, revision=3, trusted="127.0.0.0/8", *, proxied=True, **fields):
    settings = Settings(trusted_proxies=(trusted,), proxy_protocol=proxied, **fields)
    proxy.apply(proxy.plane.table.snapshot.model_copy(update={"settings": settings, "revision": revision}))


async def plain(port, header, size=65536):
    raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
    for start in range(0, len(header), size):
        raw.writer.write(header[start : start + size])
        await asyncio.sleep(0)
    return raw


async def ask(proxy, header, *lines, tls=False, size=65536):
    """The answer to a request behind this header, and what the backend was told of the client."""
    raw = await plain(proxy.https if tls else proxy.port, header, size)
    if tls:
        client = HalfClosing(raw.reader, raw.writer, trusting(), None)
        await client.shake_hands(65536)
        client.write(get("/", "Connection: close", *lines))
        answer = await client.read()
    else:
        await raw.send(get("/", "Connection: close", *lines))
        answer = await raw.rest()
    await raw.close()
    return answer


def told(backend):
    """The forwarding fields that the backend got last."""
    headers = dict(backend.requests(-1)[-1][2])
    return headers[b"x-forwarded-for"].decode(), headers[b"x-forwarded-proto"].decode()


@pytest.mark.parametrize("tls", [False, True], ids=["HTTP", "HTTPS"])
@pytest.mark.parametrize(
    ("header", "client"),
    [(LINE, "192.0.2.1"), (BINARY, "2001:db8::1"), (LOCAL, "127.0.0.1"), (UNKNOWN, "127.0.0.1")],
    ids=["version 1", "version 2", "local", "unknown"],
)
async def test_the_header_names_the_client(header, client, tls):
    async with serving_tls(echo()) as (proxy, backend):
        use(proxy)
        for size in (1, 3, 65536):
            answer = await ask(proxy, header, tls=tls, size=size)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert told(backend) == (client, "https" if tls else "http")


async def test_the_header_and_the_first_request_may_come_together():
    async with serving_tls(echo()) as (proxy, backend):
        use(proxy)
        raw = Raw(*await asyncio.open_connection("127.0.0.1", proxy.port))
        await raw.send(LINE + get("/one") + get("/two"))
        for _ in range(2):
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")
        await raw.close()
        assert told(backend) == ("192.0.2.1", "http")


async def test_a_client_that_the_header_names_is_believed_only_if_it_is_trusted_itself():
    spoofed = "X-Forwarded-For: 6.6.6.6"
    async with serving_tls(echo()) as (proxy, backend):
        use(proxy)
        for header, client in (
            (LINE, "192.0.2.1"),
            (UNKNOWN, "127.0.0.1"),
            (LOCAL, "6.6.6.6, 127.0.0.1"),
            (b"PROXY TCP4 127.0.0.9 10.0.0.1 1 2\r\n", "6.6.6.6, 127.0.0.9"),
        ):
            await ask(proxy, header, spoofed)
            assert told(backend)[0] == client


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["version 1", "version 2"])
async def test_only_trusted_addresses_may_send_it(header):
    async with serving_tls(echo()) as (proxy, backend):
        for given in ({"trusted": "10.0.0.0/8"}, {"proxied": False}):
            use(proxy, proxy.plane.table.version.revision + 1, **given)
            reached = len(backend.bytes)
            raw = await plain(proxy.port, header + get())
            assert (await raw.rest()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
            await raw.close()
            raw = await plain(proxy.https, header + get())
            with suppress(ConnectionError):
                assert b"HTTP" not in await raw.rest()
            await raw.close()
            assert len(backend.bytes) == reached
            for tls in (False, True):
                assert (await ask(proxy, b"", tls=tls)).startswith(b"HTTP/1.1 200 OK\r\n")
                assert told(backend)[0] == "127.0.0.1"


@pytest.mark.parametrize("tls", [False, True], ids=["HTTP", "HTTPS"])
@pytest.mark.parametrize(
    "sent",
    [get(), b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n" + get(), SIGNATURE + b"\x21\x11\x00\x00", b"\x16\x03\x01"],
    ids=["none", "malformed", "short", "TLS"],
)
async def test_a_header_that_is_missing_or_malformed_closes_the_connection(sent, tls):
    async with serving_tls(echo()) as (proxy, backend):
        use(proxy)
        raw = await plain(proxy.https if tls else proxy.port, sent)
        with suppress(ConnectionError):
            assert await raw.rest() == b""
        await raw.close()
        await eventually(lambda: proxy.plane.counters.openings_failed == {"ProxyHeader": 1})
        assert not backend.bytes


async def test_a_header_has_its_time():
    async with serving_tls(echo()) as (proxy, _):
        use(proxy, timeouts=Timeouts(handshake=0.3))
        waiting = [await plain(port, sent) for port in (proxy.port, proxy.https) for sent in (b"", b"PROXY ")]
        for raw in waiting:
            with suppress(ConnectionError):
                assert await raw.rest() == b""
            await raw.close()
        assert proxy.plane.counters.openings_failed == {"Timeout": 4}


async def test_it_can_be_turned_on_and_off_while_connections_live():
    async with serving_tls(echo()) as (proxy, backend):
        before = await proxy.connect()
        await before.send(get())
        await before.answer()
        use(proxy)
        during = await plain(proxy.port, LINE)
        await during.send(get())
        await during.answer()
        use(proxy, 4, proxied=False)
        for raw, client in ((before, "127.0.0.1"), (during, "192.0.2.1")):
            await raw.send(get())
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")
            assert told(backend)[0] == client
            await raw.close()
