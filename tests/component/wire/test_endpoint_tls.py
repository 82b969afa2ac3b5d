"""TLS to endpoints: only one that proves its name to the trusted authority gets a request."""

import asyncio
import logging
import os
import ssl
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
import trustme
from tests.component.wire.harness import Backend, Proxy, echo, endpoint, eventually, fleet, get
from tests.component.wire.securely import authority

from stickyroute_api.snapshot import BackendTls, Retries, Timeouts
from stickyroute_proxy.wire.parser import MAX_PARTS

SET = "shop/web:80"
NAME = "web.shop.svc"
UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
OTHERS = trustme.CA(key_type=trustme.KeyType.ECDSA)


def server(*names, issuer=None, **fields):
    """A backend's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (issuer or authority()).issue_cert(*names, key_type=trustme.KeyType.ECDSA, **fields).configure_cert(
        context
    )
    return context


def pem(issuer):
    return issuer.cert_pem.bytes().decode()


def speaking(given, name=NAME, ca=None, revision=1):
    tls = BackendTls(server_name=name, ca=pem(authority()) if ca is None else ca)
    return given.model_copy(update={"backend_tls": {SET: tls}, "revision": revision})


@asynccontextmanager
async def before(context, script=None, name=NAME, ca=None, **rule):
    """A proxy before one backend with this context."""
    backend = await Backend(script or echo(), context).start()
    proxy = await Proxy().start(speaking(fleet(endpoint(backend.port), **rule), name, ca))
    try:
        yield proxy, backend
    finally:
        await proxy.plane.drain(0, 0.2)
        await backend.stop()
        await eventually(lambda: not proxy.plane.counters.upstreams)
        assert not proxy.plane._connecting
        assert [one.in_flight for one in proxy.plane.table.endpoints()] == [0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_requests_go_by_tls_and_connections_are_used_again(version):
    seen = []
    context = server(NAME)
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda _tls, name, _context: seen.append(name)
    body = os.urandom(2_000_000)
    async with before(context) as (proxy, backend):
        raw = await proxy.connect()
        for _ in range(3):
            raw.writer.write(get("/", f"Content-Length: {len(body)}", method="POST") + body)
            head, answered = await raw.answer()
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answered == body
        await raw.close()
        assert seen == [NAME]
        assert backend.connections == 1
        assert [request[3] for request in backend.requests()] == [body] * 3


async def test_a_websocket_goes_by_tls_and_ends_as_its_backend_does():
    async def script(peer):
        await peer.request()
        await peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"
        )
        await peer.send(await peer.read())

    async with before(server(NAME), script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/", *UPGRADE))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        await raw.send(b"again")
        assert await raw.rest() == b"hiagain"
        await raw.close()


@pytest.mark.parametrize("ca", ["root", "intermediate", "leaf"])
async def test_what_is_given_as_authority_is_trusted(ca):
    intermediate = authority().create_child_ca(key_type=trustme.KeyType.ECDSA)
    issued = intermediate.issue_cert(NAME, key_type=trustme.KeyType.ECDSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    trusted = {
        "root": pem(authority()),
        "intermediate": pem(OTHERS) + pem(intermediate),
        "leaf": issued.cert_chain_pems[0].bytes().decode(),
    }
    async with before(context, ca=trusted[ca]) as (proxy, _):
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 200 OK\r\n")


PAST = datetime(2020, 1, 1, tzinfo=UTC)
REFUSED = {
    "another name": (lambda: server("other.shop.svc"), "Name", f"its certificate does not name {NAME}"),
    "another authority": (
        lambda: server(NAME, issuer=OTHERS),
        "Authority",
        "its certificate is not of the authority that is trusted: unable to get local issuer certificate",
    ),
    "expired": (lambda: server(NAME, not_after=PAST), "Expired", "its certificate has expired"),
    "in the clear": (lambda: None, "NoTLS", "it does not speak TLS on this port"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_an_endpoint_that_proves_nothing_gets_nothing(name, caplog):
    context, cause, text = REFUSED[name]
    caplog.set_level(logging.WARNING)

    async def script(peer):
        await peer.read()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with before(context(), script if name == "in the clear" else None) as (proxy, backend):
        for number in range(1, 4):
            answer = await proxy.ask(get("/secret"))
            assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
            assert b"TLS handshake with the endpoint failed" in answer
            assert text.encode() not in answer
            assert proxy.plane.counters.endpoint_handshakes_failed == {cause: number}
            assert proxy.plane.counters.connect_failures == number
        assert b"/secret" not in backend.bytes
        lines = [line.message for line in caplog.records if "endpoint a" in line.message]
        assert lines == [f"TLS with endpoint a (127.0.0.1 port {backend.port}) of service web failed: {text}"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_old_versions_are_not_spoken():
    context = server(NAME)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with before(context) as (proxy, _):
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 502 ")
        assert sum(proxy.plane.counters.endpoint_handshakes_failed.values()) == 1


async def test_the_handshake_counts_towards_the_connect_timeout():
    async def script(peer):
        await peer.read()
        await peer.read()

    timeouts = Timeouts(connect=0.3)
    async with before(None, script, timeouts=timeouts, retries=Retries(attempts=0)) as (proxy, backend):
        answer = await proxy.ask(get())
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert b"within the connect timeout (0.3 s)" in answer
        await eventually(lambda: not proxy.plane._connecting)
        await eventually(lambda: not backend._tasks)


async def test_a_client_that_goes_leaves_no_handshake_behind():
    async def script(peer):
        await peer.read()
        asked.set()
        await peer.read()

    asked = asyncio.Event()
    async with before(None, script) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get())
        await asked.wait()
        raw.writer.transport.abort()
        await eventually(lambda: not proxy.plane._connecting)
        await eventually(lambda: not backend._tasks)
        await raw.close()


async def test_an_endpoint_that_closes_midway_is_told_apart():
    async def script(peer):
        await peer.read()

    async with before(None, script) as (proxy, _):
        assert b"TLS handshake" in await proxy.ask(get())
        assert proxy.plane.counters.endpoint_handshakes_failed == {"Closed": 1}


async def test_an_answer_without_a_length_that_breaks_off_is_no_answer():
    """Its end is close_notify: without it the client must not take what came for all."""

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        if clean:
            peer.writer.close()
            with suppress(ConnectionError):
                await peer.writer.wait_closed()
        else:
            peer.writer.transport.abort()

    for clean in (True, False):
        async with before(server(NAME), script) as (proxy, _):
            raw = await proxy.connect()
            await raw.send(get("/", "Connection: close"))
            rest = await raw.rest()
            assert rest.endswith(b"0\r\n\r\n") is clean
            assert b"half" in rest
            await raw.close()


async def test_an_answer_in_crumbs_that_ends_the_connection_arrives_whole():
    """Its end comes with its last bytes, of which many turns are left to read."""
    count = 10 * MAX_PARTS
    crumbs = b"1\r\na\r\n" * count + b"0\r\n\r\n"

    async def script(peer):
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + crumbs)
        peer.writer.close()

    async with before(server(NAME), script) as (proxy, _):
        for _ in range(3):
            raw = await proxy.connect()
            await raw.send(get("/", version="1.0"))
            assert (await raw.rest()).endswith(b"\r\n\r\n" + b"a" * count)
            await raw.close()


async def test_other_terms_take_other_connections():
    async with before(server(NAME, "web.other.svc")) as (proxy, backend):
        given = proxy.plane.table.snapshot
        raw = await proxy.connect()
        for revision, name in enumerate((NAME, NAME, "web.other.svc", "web.wrong.svc", NAME), 2):
            proxy.apply(speaking(given, name, revision=revision))
            await raw.send(get())
            status = 502 if name == "web.wrong.svc" else 200
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 %d " % status)
        proxy.apply(given.model_copy(update={"backend_tls": {}, "revision": 9}))
        await raw.send(get())
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 502 ")
        await raw.close()
        assert backend.connections == 3


async def test_a_session_goes_on_over_tls_and_elsewhere_when_its_endpoint_proves_nothing():
    good, bad = await Backend(echo(), server(NAME)).start(), await Backend(echo(), server("no.svc")).start()
    proxy = await Proxy().start(speaking(fleet(endpoint(good.port, "uid-a"), endpoint(bad.port, "uid-b"))))
    raw = await proxy.connect()
    for _ in range(6):
        await raw.send(get())
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 OK\r\n")
    await raw.close()
    await proxy.plane.drain(0, 0.2)
    assert len(good.requests()) == 6
    assert not bad.bytes
    await good.stop()
    await bad.stop()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"ca": "nonsense"}, "failed: its authority has no certificate in PEM"),
        ({"name": ""}, "failed: '' is no name to ask for: "),
        ({"name": ".svc"}, "failed: '.svc' is no name to ask for: "),
        ({"name": "a..b"}, "failed: 'a..b' is no name to ask for: "),
    ],
)
async def test_endpoints_of_whom_none_could_be_believed_are_not_spoken_to(fields, problem, caplog):
    async with before(server(NAME)) as (proxy, backend):
        given = proxy.plane.table.snapshot
        proxy.apply(speaking(given, revision=2, **fields))
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 502 ")
        assert problem in caplog.text
        assert not backend.connections
        assert proxy.plane.counters.endpoint_handshakes_failed == {"Unusable": 1}
        proxy.apply(speaking(given, revision=3))
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 200 OK\r\n")
