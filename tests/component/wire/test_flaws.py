"""One test for each published class of flaw in HTTP proxies and in aiohttp: none of them is here.

The corpus holds the same by the thousand; these say by name what must never come back.
"""

import asyncio
import gzip
import re
import zlib

import pytest
from tests.component.wire.harness import COOKIE, OK, echo, get, serving

from stickyroute_api.settings import Limits
from stickyroute_proxy.wire.head import Kinds

MARKER = b"GET /smuggled HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"


def post(*lines, body=b""):
    return get("/", *lines, method="POST") + body


async def refused(message, status=400):
    """It is refused, nothing behind it is answered, and no marker reaches a backend."""
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(message + get("/after"))
        answers = await raw.rest()
        await raw.close()
        assert answers.startswith(b"HTTP/1.1 %d " % status), answers
        assert answers.count(b"HTTP/1.1 ") == 1
        assert b"/smuggled" not in backend.bytes
        assert b"/after" not in backend.bytes


# 1. Request smuggling


@pytest.mark.parametrize(
    "message",
    [
        post("Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + MARKER),
        post("Transfer-Encoding: chunked", "Content-Length: 3", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n" + MARKER),
    ],
    ids=["CL.TE", "TE.CL"],
)
async def test_length_and_coding(message):
    """CWE-444; CVE-2023-37276 (aiohttp by llhttp)."""
    await refused(message)


@pytest.mark.parametrize(
    "value", ["xchunked", "chunked, identity", "identity, chunked", "\x0bchunked", "chunked\x00", "gzip", ""]
)
async def test_a_coding_that_only_one_side_understands(value):
    """TE.TE; CVE-2019-18277 (HAProxy)."""
    await refused(post(f"Transfer-Encoding: {value}", body=b"0\r\n\r\n" + MARKER))


async def test_a_coding_in_two_fields():
    """The first or the last counts, depending on who reads."""
    await refused(post("Transfer-Encoding: chunked", "Transfer-Encoding: x", body=b"0\r\n\r\n" + MARKER))


@pytest.mark.parametrize(
    "line", ["Content-Length : 0", "Content-Length: +0", "Content-Length: 0, 0", "Content-Length: 0x0"]
)
async def test_a_length_that_only_one_side_understands(line):
    """CL.0, CL.CL; CVE-2023-47627 (aiohttp), CVE-2019-16869 (Netty), CVE-2018-8004 (Traffic Server)."""
    await refused(post(line, body=MARKER))


async def test_a_body_where_none_is_expected_is_a_body():
    """CL.0: a GET's body is passed on as one, and never read as the next request."""
    async with serving(echo()) as (proxy, backend):
        answers = await proxy.ask(get("/", f"Content-Length: {len(MARKER)}") + MARKER + get("/after"))
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert [request[1] for request in backend.requests()] == [b"/", b"/after"]
        assert backend.requests()[0][3] == MARKER


async def test_a_chunked_body_where_none_is_expected_is_a_body():
    """TE.0: the same for OPTIONS and chunks."""
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(MARKER), MARKER)
    async with serving(echo()) as (proxy, backend):
        sent = get("/", "Transfer-Encoding: chunked", method="OPTIONS") + chunks + get("/after")
        assert (await proxy.ask(sent)).count(b"HTTP/1.1 200 ") == 2
        assert [request[1] for request in backend.requests()] == [b"/", b"/after"]


@pytest.mark.parametrize("line", ["X: a\rX-B: c", "X: a\rTransfer-Encoding: chunked", "X: a\r"])
async def test_bare_cr(line):
    """Read by some as a line's end: CVE-2024-23829 (aiohttp) is one of its kind."""
    await refused(post(line, "Content-Length: 0", body=MARKER))


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
async def test_bare_line_ends_in_chunks(ending):
    """TERM.EXT, EXT.TERM; CVE-2025-22871 (Go)."""
    await refused(post("Transfer-Encoding: chunked", body=b"5;a%bhello\r\n0\r\n\r\n" % ending + MARKER))


async def test_chunk_extensions_go_no_further():
    """Extensions that the next reader may end elsewhere."""
    body = b'5;a=b;c="d;e"\r\nhello\r\n0;f\r\n\r\n'
    async with serving(echo()) as (proxy, backend):
        assert (await proxy.ask(post("Transfer-Encoding: chunked", body=body))).endswith(b"hello")
        assert b";" not in backend.bytes.partition(b"\r\n\r\n")[2]


async def test_an_endless_chunk_extension():
    """CVE-2023-39326 (Go): bytes that are no body, without bounds."""
    await refused(post("Transfer-Encoding: chunked", body=b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"))


@pytest.mark.parametrize(
    "line", ["Host: evil", "Content-Length: 99", "Authorization: x", "X-Session-Lost: x", "Cookie: sr=x"]
)
async def test_trailers_are_not_fields(line):
    """CVE-2025-53643 (aiohttp): what stands behind the body never counts as standing before it."""
    body = b"2\r\nok\r\n0\r\n%b\r\n\r\n" % line.encode()
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(post("Transfer-Encoding: chunked", body=body))
        # Refused, or served without it: the head that went on never has it.
        assert line.partition(":")[2].strip().encode() not in backend.bytes.partition(b"\r\n\r\n")[0].split()


async def test_trailers_have_bounds():
    await refused(post("Transfer-Encoding: chunked", body=b"0\r\n" + b"X: a\r\n" * 100_000), status=431)


@pytest.mark.parametrize("second", ["Host: evil.example.com", "Host: shop.example.com", "host:", "HOST: a"])
async def test_two_hosts(second):
    """Routed by one, served by the other."""
    await refused(get("/", second))


@pytest.mark.parametrize(
    "line", ["Host: evil.example.com", "\tHost: evil.example.com", " Host: evil.example.com"]
)
async def test_host_by_folding(line):
    await refused(b"GET / HTTP/1.1\r\n" + line.encode() + b"\r\nHost: shop.example.com\r\n\r\n")


async def test_a_field_from_the_request_line():
    """CVE-2023-49081 and CVE-2023-49082 (aiohttp): a version or a method that carries line ends."""
    await refused(b"GET / HTTP/1.1\nHost: evil.example.com\r\nHost: shop.example.com\r\n\r\n")


# 1. WebSocket upgrade smuggling

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==")


async def test_a_websocket_that_the_backend_refuses_is_no_tunnel():
    """The proxy believes in the upgrade, the backend does not: what follows would bypass every rule."""
    answers = [
        b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ]
    for answer in answers:
        async with serving(echo(lambda *_, answer=answer: answer)) as (proxy, backend):
            got = await proxy.ask(get("/chat", *UPGRADE, "Sec-WebSocket-Version: 777") + MARKER)
            assert not got.startswith(b"HTTP/1.1 101")
            assert b"/smuggled" not in backend.bytes


async def test_a_websocket_answer_to_no_websocket_request_is_no_tunnel():
    answer = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with serving(echo(lambda *_: answer)) as (proxy, backend):
        answers = await proxy.ask(get("/") + get("/next"))
        assert re.findall(rb"HTTP/1.1 (\d+) ", answers) == [b"502", b"502"]
        assert [len(backend.requests(one)) for one in range(backend.connections)] == [1, 1]


@pytest.mark.parametrize("lines", [(), ("Transfer-Encoding: chunked",)])
async def test_a_websocket_request_with_a_body(lines):
    framing = lines or (f"Content-Length: {len(MARKER)}",)
    await refused(get("/chat", *UPGRADE, *framing) + MARKER)


@pytest.mark.parametrize("value", ["h2c", "h2c, websocket", "websocket, h2c", "H2C"])
async def test_h2c_is_not_passed_on(value):
    """CWE-444, h2c smuggling (2020): the backend would switch, and the proxy see bytes."""
    lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {value}", "HTTP2-Settings: AAMAAABk")
    async with serving(echo()) as (proxy, backend):
        assert (await proxy.ask(get("/", *lines))).startswith(b"HTTP/1.1 200 ")
        sent = backend.bytes.lower()
        assert b"upgrade" not in sent
        assert b"http2-settings" not in sent


# 1. Floods and bombs


async def test_a_pipelining_flood_is_served_in_order_or_refused():
    """Requests without end: at most one of them is under way at a backend."""
    underway = most = 0

    async def script(peer):
        nonlocal underway, most
        while True:
            await peer.request()
            underway += 1
            most = max(most, underway)
            await asyncio.sleep(0)
            underway -= 1
            await peer.send(OK)

    async with serving(script) as (proxy, backend):
        answers = await proxy.ask(get() * 5000)
        statuses = re.findall(rb"HTTP/1.1 (\d+) ", answers)
        assert most == 1
        assert set(statuses) <= {b"200", b"429"}
        assert statuses.count(b"429") <= 1
        assert backend.bytes.count(b"GET / ") == statuses.count(b"200")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_decompression_bomb_stays_packed(coding):
    """CVE-2025-69223 (aiohttp): bodies are passed on as they came, both ways."""
    bomb = gzip.compress(bytes(50_000_000)) if coding == "gzip" else zlib.compress(bytes(50_000_000))

    def reply(_, body):
        return b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            coding.encode(),
            len(body),
            body,
        )

    async with serving(echo(reply)) as (proxy, backend):
        sent = post(f"Content-Encoding: {coding}", f"Content-Length: {len(bomb)}", body=bomb)
        assert (await proxy.ask(sent)).endswith(b"\r\n\r\n" + bomb)
        (request,) = backend.requests()
        assert request[3] == bomb
        assert (b"content-encoding", coding.encode()) in request[2]


# 2. Nothing but what was read anew goes on


async def test_what_goes_on_is_written_anew():
    """One line end, one space behind the colon, one framing field, whatever came."""
    sent = (
        b"POST / HTTP/1.1\r\nHOST:shop.example.com\r\nX-A:\t b\r\ntransfer-ENCODING:ChunkeD\r\n\r\n"
        b"00002;x\r\nok\r\n0\r\n\r\n"
    )
    async with serving(echo()) as (proxy, backend):
        assert (await proxy.ask(sent)).endswith(b"ok")
        first, _, rest = backend.bytes.partition(b"\r\n\r\n")
        assert rest == b"2\r\nok\r\n0\r\n\r\n"
        assert all(re.fullmatch(rb"[!-~]+: [^\s].*", line) for line in first.split(b"\r\n")[1:])
        assert first.lower().count(b"transfer-encoding: chunked") == 1


# 3. Hop by hop


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Cookie",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "Content-Length",
    ],
)
async def test_connection_nominates_nothing_of_ours(name):
    """CVE-2021-33197 (Go), CVE-2022-31813 (Apache): fields that security stands on, removed by a client."""
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(post(f"Connection: close, {name}", "Cookie: a=b", "Content-Length: 2", body=b"ok"))
        (request,) = backend.requests()
        fields = dict(request[2])
        assert request[3] == b"ok"
        assert fields[b"host"] == b"shop.example.com"
        assert fields[b"cookie"] == b"a=b"
        assert fields[b"x-forwarded-for"] == b"127.0.0.1"
        assert fields[b"forwarded"].startswith(b"for=127.0.0.1;")


async def test_connection_nominates_what_is_the_clients():
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(get("/", "X-Secret: 1", "Connection: x-secret"))
        assert b"x-secret" not in backend.bytes.lower()


# 4. Forwarding fields


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-Prefix",
    ],
)
async def test_a_stranger_says_nothing_of_where_it_comes_from(name):
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(get("/", f"{name}: spoofed", f"{name}: spoofed"))
        assert b"spoofed" not in backend.bytes


async def test_the_proxy_protocol_is_off():
    async with serving(echo()) as (proxy, backend):
        answer = await proxy.ask(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get())
        assert re.fullmatch(rb"HTTP/1.1 (400|501) .*", answer.partition(b"\r\n")[0])
        assert not backend.connections


# 5. Aliases


@pytest.mark.parametrize(
    "name",
    [
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_session_lost",
        "X_Session-Lost",
        "X_Real_IP",
        "Content_Length",
        "Transfer_Encoding",
        "X_Request_Id",
    ],
)
async def test_aliases_by_underscore(name):
    """CGI and WSGI read both as one."""
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(get("/", f"{name}: spoofed"))
        assert b"spoofed" not in backend.bytes


@pytest.mark.parametrize("name", ["Proxy", "PROXY"])
async def test_httpoxy(name):
    """CGI hands it to programs as HTTP_PROXY, and they go where it says."""
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(get("/", f"{name}: http://evil.example.com"))
        assert b"evil" not in backend.bytes


# 6. Reuse and retry


async def test_an_early_answer_costs_the_connection():
    """Response queue poisoning: the rest of the body would be read as a request."""

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(OK)
        await peer.read()

    async with serving(script) as (proxy, backend):
        for _ in range(3):
            raw = await proxy.connect()
            await raw.send(get("/", "Content-Length: 100", method="POST"))
            assert (await raw.answer())[1] == b"ok"
            await raw.close()
        assert backend.connections == 3


async def test_what_may_have_had_an_effect_goes_out_once():
    async def script(peer):
        await peer.request()
        peer.writer.transport.abort()

    async with serving(script, script) as (proxy, *backends):
        assert (await proxy.ask(post("Content-Length: 1", body=b"x"))).startswith(b"HTTP/1.1 502 ")
        assert sum(backend.bytes.count(b"POST ") for backend in backends) == 1


# 7. Bounds


async def test_a_head_without_end_is_given_up():
    await refused(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20_000, status=431)


def test_what_is_remembered_of_names_has_bounds():
    """A client that never spells a name twice fills no memory."""
    kinds = Kinds()
    for number in range(20_000):
        assert kinds[b"x-%d" % number] == 0
    assert len(kinds) <= 4096
    assert Limits().head_bytes <= 1 << 20


# 15 to 17. The cookie


@pytest.mark.parametrize("value", ["", "x", "a" * 4000, "../../etc/passwd", "0" * 100, "==", "\xff"])
async def test_a_forged_token_is_no_token(value):
    """Never an error, never an oracle: served as if it had none, and given one."""
    async with serving(echo()) as (proxy, backend):
        answer = await proxy.ask(get("/", f"Cookie: {COOKIE}={value}; other=1"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"set-cookie: sr=" in answer
        assert dict(backend.requests()[0][2])[b"cookie"] == b"other=1"


async def test_the_token_names_nothing():
    async with serving(echo()) as (proxy, backend):
        token = re.search(rb"set-cookie: sr=([^;]+)", await proxy.ask(get()))[1]
        for secret in (b"uid-a", b"127.0.0.1", b"%d" % backend.port, b"shop"):
            assert secret not in token


async def test_many_cookies_of_our_name_are_not_all_tried():
    """A client that sends thousands costs no more than eight."""
    async with serving(echo()) as (proxy, backend):
        token = re.search(rb"set-cookie: (sr=[^;]+)", await proxy.ask(get()))[1].decode()
        early = "; ".join([*["sr=x"] * 7, token])
        late = "; ".join([*["sr=x"] * 8, token])
        assert b"set-cookie" not in await proxy.ask(get("/", f"Cookie: {early}"))
        assert b"set-cookie" in await proxy.ask(get("/", f"Cookie: {late}"))
        assert b"sr=" not in backend.bytes


async def test_an_answer_that_sets_our_cookie_is_not_for_shared_caches():
    """Web cache deception and kin: one client's session in another's browser."""
    for control in (b"public, max-age=60", b"s-maxage=60"):
        answer = OK.replace(b"\r\n\r\n", b"\r\nCache-Control: " + control + b"\r\n\r\n")
        async with serving(echo(lambda *_, answer=answer: answer)) as (proxy, _):
            assert b"set-cookie" not in await proxy.ask(get())
    async with serving(echo()) as (proxy, _):
        assert b"\r\nCache-Control: private\r\n" in await proxy.ask(get())
