"""Handshakes of clients: who is shown which certificate, and who is refused."""

import asyncio
import os
import ssl
from contextlib import suppress

import pytest
from tests.component.wire.harness import OK, Raw, echo, eventually, get
from tests.component.wire.securely import certificate, connect, half_closing, secured, serving_tls, trusting

from stickyroute_api.settings import Settings, Timeouts

UNRECOGNIZED_NAME, MISSING_EXTENSION, NO_APPLICATION_PROTOCOL = 112, 109, 120


def names(raw):
    """The names in the certificate that a client was shown."""
    found = raw.writer.get_extra_info("peercert")
    return [name for _, name in found["subjectAltName"]]


def client_hello(name, context):
    """What a client sends first."""
    context.check_hostname = name is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def renew(proxy, certificates, revision, routes=None):
    given = proxy.plane.table.snapshot.model_copy(update={"revision": revision})
    key = next(iter(given.routes))
    given = given.model_copy(update={"routes": {key: given.routes[key]}})
    proxy.apply(secured(given, certificates, routes))


def settings_of(proxy, revision=10, **fields):
    settings = Settings(**fields)
    proxy.apply(proxy.plane.table.snapshot.model_copy(update={"settings": settings, "revision": revision}))


CERTIFICATES = {
    "shop": certificate("shop.example.com"),
    "wild": certificate("*.example.com"),
    "deep": certificate("*.eu.example.com"),
}


ROUTES = {"shop": ("shop.example.com",), "wild": ("*.example.com",), "deep": ("*.eu.example.com",)}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("shop.example.com", "shop.example.com"),
        ("SHOP.Example.com", "shop.example.com"),
        ("www.example.com", "*.example.com"),
        ("a.eu.example.com", "*.eu.example.com"),
    ],
)
async def test_the_certificate_is_that_of_the_name_asked_for(name, shown):
    async with serving_tls(echo(), certificates=CERTIFICATES, routes=ROUTES) as (proxy, backend):
        raw = await connect(proxy.https, name)
        assert names(raw) == [shown]
        tls = raw.writer.get_extra_info("ssl_object")
        assert (tls.version(), tls.selected_alpn_protocol(), tls.compression()) == (
            "TLSv1.3",
            "http/1.1",
            None,
        )
        await raw.send(get("/", host=name))
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")
        await raw.close()
        headers = dict(backend.requests()[0][2])
        assert headers[b"x-forwarded-proto"] == b"https"
        assert headers[b"forwarded"].endswith(b";proto=https")


@pytest.mark.parametrize(
    ("name", "alpn", "alert"),
    [
        ("other.example.org", (), UNRECOGNIZED_NAME),
        (None, (), MISSING_EXTENSION),
        ("shop.example.com", ("h2",), NO_APPLICATION_PROTOCOL),
        ("shop.example.com", ("h2", "http/1.0"), NO_APPLICATION_PROTOCOL),
    ],
)
async def test_refused_before_the_handshake(name, alpn, alert):
    async with serving_tls(echo(), certificates=CERTIFICATES, routes=ROUTES) as (proxy, _):
        raw = Raw(*await asyncio.open_connection("127.0.0.1", proxy.https))
        await raw.send(client_hello(name, trusting(alpn=alpn)))
        answer = await raw.rest()
        assert (answer[0], answer[5:]) == (21, bytes((2, alert)))
        await raw.close()
        assert sum(proxy.plane.counters.openings_failed.values()) == 1


async def test_a_route_for_any_host_serves_every_name_and_none():
    async with serving_tls(echo(), certificates={"tls": certificate("any.example.com")}) as (proxy, _):
        context = trusting(alpn=())
        context.check_hostname = False
        for name in ("other.example.org", None):
            raw = await connect(proxy.https, name, context)
            await raw.send(get("/", host="other.example.org"))
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")
            await raw.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_versions_are_refused():
    async with serving_tls(echo()) as (proxy, _):
        context = trusting()
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError) as refused:
            await connect(proxy.https, context=context)
        assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"
        assert proxy.plane.counters.openings_failed == {"Handshake": 1}


@pytest.mark.parametrize("ciphers", ["ECDHE+AES256:!AESGCM", "AES128-GCM-SHA256", "DHE+AESGCM"])
async def test_weak_ciphers_are_refused(ciphers):
    async with serving_tls(echo()) as (proxy, _):
        context = trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with pytest.raises(ssl.SSLError) as refused:
            await connect(proxy.https, context=context)
        assert "HANDSHAKE_FAILURE" in refused.value.reason


async def test_a_renewal_is_served_at_once_and_open_connections_live_on():
    half = b"x" * 500_000
    go_on = asyncio.Event()

    async def script(peer):
        while True:
            head, _ = await peer.request()
            if b"/download" not in head:
                await peer.send(OK)
                continue
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + half)
            await go_on.wait()
            await peer.send(half)

    first, second = certificate("shop.example.com"), certificate("shop.example.com", "new.example.com")
    async with serving_tls(script, certificates={"tls": first}) as (proxy, _):
        idle, busy = await connect(proxy.https), await connect(proxy.https)
        await busy.send(get("/download"))
        assert b"200 OK" in await busy.head()
        served = proxy.plane.table.certificates.find(b"shop.example.com")
        renew(proxy, {"tls": first}, revision=3)
        assert proxy.plane.table.certificates.find(b"shop.example.com") is served
        renew(proxy, {"tls": second}, revision=4)
        fresh = await connect(proxy.https)
        assert names(fresh) == ["shop.example.com", "new.example.com"]
        go_on.set()
        assert await busy.reader.readexactly(1_000_000) == half * 2
        for raw in (idle, busy, fresh):
            await raw.send(get())
            assert (await raw.answer())[1] == b"ok"
            await raw.close()


async def test_sessions_resume_and_a_renewal_costs_no_more_than_a_full_handshake():
    async def handshake(session):
        """The session for the next one, and whether this one resumed."""
        client = await half_closing(proxy.https, context=trust, session=session)
        client.write(get())
        assert (await client.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        await client.close()
        return client.tls.session, client.tls.session_reused

    trust = trusting()
    async with serving_tls(echo(), certificates={"tls": certificate("shop.example.com")}) as (proxy, _):
        session, resumed = await handshake(None)
        assert not resumed
        session, resumed = await handshake(session)
        assert resumed
        renew(proxy, {"tls": certificate("shop.example.com")}, revision=3)
        session, resumed = await handshake(session)
        assert not resumed
        assert (await handshake(session))[1]


async def test_a_host_with_another_certificate_is_misdirected():
    routes = {**ROUTES, "wild": ("*.example.com", "example.com")}
    async with serving_tls(echo(), certificates=CERTIFICATES, routes=routes) as (proxy, backend):

        async def ask(name, host):
            raw = await connect(proxy.https, name)
            await raw.send(get("/", host=host))
            answer = (await raw.answer())[0]
            await raw.close()
            return int(answer[9:12]), b"\r\nConnection: close\r\n" in answer

        assert await ask("shop.example.com", "shop.example.com.:443") == (200, False)
        assert await ask("www.example.com", "other.example.com") == (200, False)
        assert await ask("www.example.com", "example.com") == (200, False)
        reached = len(backend.bytes)
        assert await ask("www.example.com", "shop.example.com") == (421, True)
        assert await ask("shop.example.com", "www.example.com") == (421, True)
        assert await ask("shop.example.com", "nowhere.example.org") == (421, True)
        assert len(backend.bytes) == reached


async def test_any_segmentation_of_a_handshake_will_do():
    async with serving_tls(echo()) as (proxy, _):
        for size in (1, 2, 7, 100):
            client = await half_closing(proxy.https, size)
            client.write(get("/", "Connection: close"))
            assert (await client.read()).startswith(b"HTTP/1.1 200 OK\r\n")
            assert client.clean
            await client.close()


async def test_slow_handshakes_are_closed_in_their_time_and_hurt_nobody():
    hello = client_hello("shop.example.com", trusting())
    async with serving_tls(echo()) as (proxy, _):
        settings_of(proxy, timeouts=Timeouts(handshake=1.5))
        plane = proxy.plane
        slow = []
        for number in range(1000):
            # Nothing, a part of the ClientHello, or all of it: the rest never comes.
            raw = Raw(*await asyncio.open_connection("127.0.0.1", proxy.https))
            raw.writer.write(hello[: (0, 1, 100, len(hello))[number % 4]])
            slow.append(raw)
        await eventually(lambda: len(plane.openings) == 1000 or plane.counters.openings_failed)
        raw = await connect(proxy.https)
        await raw.send(get())
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")
        for one in slow:
            with suppress(ConnectionError):
                await one.rest()
        await eventually(lambda: not plane.openings)
        assert plane.counters.openings_failed == {"Timeout": 1000}
        assert plane.counters.open_connections == 1
        await raw.send(get())
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")
        await raw.close()
        for one in slow:
            await one.close()


@pytest.mark.parametrize(
    "sent",
    [
        get(),
        b"\x16\x03\x01\xff\xff\x01\x00\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x00" * 20,
        b"\x80\x2e\x01\x03\x01",
        os.urandom(300_000),
    ],
    ids=["HTTP", "too long", "too short", "empty records", "SSL 2", "noise"],
)
async def test_what_is_no_handshake_is_closed(sent):
    async with serving_tls(echo()) as (proxy, _):
        raw = Raw(*await asyncio.open_connection("127.0.0.1", proxy.https))
        with suppress(ConnectionError):
            await raw.send(sent)
            assert len(await raw.rest()) <= 7
        await raw.close()
        await eventually(lambda: proxy.plane.counters.openings_failed)
