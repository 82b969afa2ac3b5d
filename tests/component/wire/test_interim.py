"""What comes before an answer and behind its body: 1xx, Expect, trailers."""

import asyncio

import h11
import pytest
from tests.component.wire.harness import COOKIE, OK, echo, get, serving

from stickyroute_api import snapshot

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-A: 1\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_interim_answers_are_relayed_with_their_fields():
    async with serving(echo(lambda *_: PROCESSING + HINTS + PROCESSING + HINTS + OK)) as (proxy, backend):
        raw = await proxy.connect()
        for _ in range(10):
            await raw.send(get("/"))
            for expected in (PROCESSING, HINTS, PROCESSING, HINTS):
                assert await raw.head() == expected
            assert (await raw.answer())[1] == b"ok"
        await raw.close()
        assert backend.connections == 1
        # HTTP/1.0 knows none.
        assert (await proxy.ask(get("/", version="1.0"))).count(b"HTTP/1.1 ") == 1


async def test_interim_answers_lose_what_ends_at_a_hop():
    sent = b"HTTP/1.1 103 Early Hints\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n"
    async with serving(echo(lambda *_: sent + OK)) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/"))
        assert await raw.head() == b"HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n"
        assert (await raw.answer())[1] == b"ok"
        await raw.close()


async def test_interim_answers_are_bounded():
    async with serving(echo(lambda *_: HINTS * 32 + OK)) as (proxy, _):
        assert (await proxy.ask(get("/"))).count(b"HTTP/1.1 103 ") == 32
    async with serving(echo(lambda *_: HINTS * 33 + OK)) as (proxy, _):
        answers = await proxy.ask(get("/"))
        assert answers.count(b"HTTP/1.1 103 ") == 32
        assert b"HTTP/1.1 502 " in answers
        assert b"more than 32 interim answers" in answers


async def test_100_goes_on_as_the_endpoint_says_it_but_not_to_http_1_0():
    async with serving(echo(lambda *_: CONTINUE + OK)) as (proxy, _):
        assert (await proxy.ask(get("/"))).startswith(CONTINUE)
        assert (await proxy.ask(get("/", "Expect: 100-continue"))).startswith(CONTINUE)
        body = get("/", "Content-Length: 1", "Expect: 100-continue", method="POST", version="1.0") + b"a"
        assert b"100 Continue" not in await proxy.ask(body)


POST = get("/", "Content-Length: 5", "Expect: 100-continue", method="POST")


async def test_an_endpoint_refuses_before_the_body():
    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        assert await peer.reader.read() == b""

    async with serving(script) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(POST)
        answers = await raw.rest()
        await raw.close()
        assert answers.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nConnection: close\r\n" in answers
        assert answers.count(b"HTTP/1.1 ") == 1


async def test_an_endpoint_that_knows_no_expect():
    """It just waits for the body, which the client sends when nothing comes."""
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        for _ in range(2):
            await raw.send(POST)
            await asyncio.sleep(0.05)
            await raw.send(b"hello")
            head, body = await raw.answer()
            assert (head.startswith(b"HTTP/1.1 200 "), body) == (True, b"hello")
        await raw.close()
        assert backend.connections == 1


async def test_expect_goes_no_further_than_http11_and_a_body():
    async with serving(echo()) as (proxy, backend):
        body = get("/", "Content-Length: 5", "Expect: 100-continue", method="POST", version="1.0") + b"hello"
        assert (await proxy.ask(body)).endswith(b"hello")
        await proxy.ask(get("/", "Expect: 100-continue"))
        await proxy.ask(get("/", "Expect: 100-Continue", "Content-Length: 5", method="POST") + b"hello")
        expected = [b"expect" in dict(request[2]) for request in backend.requests()]
        assert expected == [False, False, True]


TRAILED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, Set-Cookie\r\n\r\n"
    b"5\r\nhello\r\n0\r\ngrpc-status: 0\r\nSet-Cookie: a=b\r\nHost: evil\r\nX-Sum: 1\r\n\r\n"
)


async def answered(raw):
    """The head's Trailer, the body and the trailers of the next answer, as h11 reads them."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    announced, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(10):
                connection.receive_data(await raw.reader.read(65536))
        elif isinstance(event, h11.Response):
            announced = dict(event.headers).get(b"trailer")
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return announced, body, list(event.headers)


@pytest.mark.parametrize("packet", [1000, 7, 1])
async def test_trailers_of_answers(packet):
    async def script(peer):
        while True:
            await peer.request()
            for start in range(0, len(TRAILED), packet):
                await peer.send(TRAILED[start : start + packet])
                if packet < 1000:
                    await asyncio.sleep(0.001)

    kept = [(b"grpc-status", b"0"), (b"x-sum", b"1")]
    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()

        async def answer(*lines):
            await raw.send(get("/", *lines))
            return await answered(raw)

        assert await answer("TE: trailers") == (b"grpc-status", b"hello", kept)
        assert await answer() == (None, b"hello", [])
        assert await answer("TE: gzip") == (None, b"hello", [])
        assert await answer("Connection: TE", "TE: deflate;q=0.5, trailers") == (
            b"grpc-status",
            b"hello",
            kept,
        )
        await raw.close()
        assert backend.connections == 1
        data = await proxy.ask(get("/", "TE: trailers", version="1.0"))
        assert data.endswith(b"\r\n\r\nhello")
        assert b"Trailer" not in data


async def test_trailers_of_requests_are_dropped():
    sent = get("/", "Transfer-Encoding: chunked", "Trailer: X-Sum", method="POST")
    async with serving(echo()) as (proxy, backend):
        await proxy.ask(sent + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n")
        ((_, _, fields, body),) = backend.requests()
        assert body == b"hello"
        assert not {b"trailer", b"x-sum", b"content-length"} & {name for name, _ in fields}


async def test_a_length_behind_chunks_is_refused():
    chunks = b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    async with serving(echo(lambda *_: answer)) as (proxy, _):
        assert (await proxy.ask(get("/"))).startswith(b"HTTP/1.1 502 ")
        answers = await proxy.ask(get("/", "Transfer-Encoding: chunked", method="POST") + chunks)
        assert answers.startswith(b"HTTP/1.1 400 ")
        assert answers.count(b"HTTP/1.1 ") == 1


async def test_interim_answers_set_no_cookie_of_our_name():
    """As other answers do not: there are clients that take cookies from both."""
    forged = f"Set-Cookie: {COOKIE}=forged; Path=/\r\n".encode()
    others = f"Set-Cookie: a=1\r\nset-cookie: {COOKIE}2=2\r\n".encode()
    sent = b"HTTP/1.1 103 Early Hints\r\n" + forged + others + b"\r\n"
    policy = snapshot.Persistence(type="Cookie", cookie=snapshot.Cookie(name=COOKIE))
    async with serving(echo(lambda *_: sent + OK), persistence=policy) as (proxy, _):
        raw = await proxy.connect()
        for _ in range(2):
            await raw.send(get("/"))
            assert await raw.head() == (b"HTTP/1.1 103 Early Hints\r\n" + others + b"\r\n")
            assert (await raw.answer())[1] == b"ok"
        await raw.close()
