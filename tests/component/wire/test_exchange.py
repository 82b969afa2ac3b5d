"""Requests up, answers down, and the session's token on the way."""

import re

from tests.component.wire.harness import echo, get, serving


async def test_a_get_passes_and_the_session_keeps_its_pod():
    def reply(head, body):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"

    async with serving(echo(reply), echo(lambda *_: reply(0, 0)[:-1] + b"b")) as (proxy, a, b):
        raw = await proxy.connect()
        await raw.send(get("/x?y=1", "Cookie: other=1"))
        head, body = await raw.answer()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        token = re.search(rb"set-cookie: (sr=[\w-]+);", head)[1]
        assert b"Cache-Control: private\r\n" in head
        for _ in range(4):
            await raw.send(get("/again", "Cookie: other=1; " + token.decode() + "; last=2"))
            head, again = await raw.answer()
            assert again == body
            assert b"set-cookie" not in head
        await raw.close()
        backend = a if body == b"a" else b
        assert backend.connections == 1
        requests = backend.requests()
        assert len(requests) == 5
        method, target, headers, _ = requests[-1]
        assert (method, target) == (b"GET", b"/again")
        assert dict(headers)[b"cookie"] == b"other=1; last=2"
        assert dict(headers)[b"x-forwarded-for"] == b"127.0.0.1"
        assert dict(headers)[b"x-forwarded-host"] == b"shop.example.com"


async def test_bodies_pass_both_ways():
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 5", method="POST") + b"hello")
        assert (await raw.answer())[1] == b"hello"
        await raw.send(
            get("/", "Transfer-Encoding: chunked", method="POST")
            + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n"
        )
        assert (await raw.answer())[1] == b"abcde"
        await raw.close()
        assert [request[3] for request in backend.requests()] == [b"hello", b"abcde"]
