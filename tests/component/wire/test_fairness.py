"""What is cheap to send and dear to read keeps nobody else waiting."""

from asyncio import create_task

from tests.component.wire.harness import OK, echo, get, serving
from tests.component.wire.securely import half_closing, serving_tls

from stickyroute_proxy.wire.parser import MAX_PARTS

COUNT = 10 * MAX_PARTS
CRUMBS = b"1\r\na\r\n" * COUNT + b"0\r\n\r\n"


async def test_a_body_in_crumbs_arrives_whole_and_the_next_request_behind_it():
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", "Transfer-Encoding: chunked", method="POST") + CRUMBS + get("/next"))
        assert (await raw.answer())[1] == b"a" * COUNT
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        await raw.close()
        (_, _, _, body), (_, target, _, _) = backend.requests()
        assert (body, target) == (b"a" * COUNT, b"/next")


async def test_others_are_served_while_a_body_comes_in_crumbs():
    async with serving(echo()) as (proxy, backend):
        crumbs, polite = await proxy.connect(), await proxy.connect()
        await polite.send(get("/first"))
        await polite.answer()
        # Both have come when the loop looks next; the crumbs, many turns of them, are read first.
        many = 100 * MAX_PARTS
        body = b"1\r\na\r\n" * many + b"0\r\n\r\n"
        sending = create_task(crumbs.send(get("/", "Transfer-Encoding: chunked", method="POST") + body))
        await polite.send(get("/second"))
        await polite.answer()
        assert backend.bytes.count(b"a" * MAX_PARTS) < 100
        await sending
        assert (await crumbs.answer())[1] == b"a" * many
        await crumbs.close()
        await polite.close()


async def test_an_answer_in_crumbs_arrives_whole_and_its_connection_is_used_again():
    def reply(head, _):
        return (
            OK.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2] + CRUMBS
            if b"/big" in head
            else OK
        )

    async with serving(echo(reply)) as (proxy, backend):
        for _ in range(3):
            raw = await proxy.connect()
            await raw.send(get("/big", version="1.0"))
            assert (await raw.rest()).endswith(b"\r\n\r\n" + b"a" * COUNT)
            await raw.close()
        assert backend.connections == 1


async def test_crumbs_through_tls():
    async with serving_tls(echo()) as (proxy, _):
        client = await half_closing(proxy.https)
        client.write(get("/", "Transfer-Encoding: chunked", method="POST") + CRUMBS[:16000])
        client.write(CRUMBS[16000:] + get("/next", "Connection: close"))
        head = await client.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await client.readexactly(COUNT) == b"a" * COUNT
        assert (await client.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await client.close()
