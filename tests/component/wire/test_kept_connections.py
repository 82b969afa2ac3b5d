"""Connections to pods: made in time or not at all, and used again only where nothing is left on them."""

import asyncio
import socket
from pathlib import Path

from tests.component.wire.harness import OK, echo, endpoint, eventually, fleet, get, serving

from stickyroute_api.snapshot import Persistence, Timeouts

NONE = Persistence(type="None")


async def test_bytes_behind_an_answer_never_become_anothers():
    """A backend that says more than it was asked loses its connection; no client sees what it said."""

    async def script(peer):
        while True:
            await peer.request()
            await peer.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    async def late(peer):
        while True:
            await peer.request()
            await peer.send(OK)
            await asyncio.sleep(0.02)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    for one in (script, late):
        async with serving(one) as (proxy, backend):
            raw = await proxy.connect()
            for i in range(5):
                await raw.send(get(f"/{i}"))
                assert (await raw.answer())[1] == b"ok"
                await asyncio.sleep(0.05)
            await raw.close()
            assert backend.connections == 5


async def test_an_answer_before_the_requests_end_costs_both_connections():
    async def script(peer):
        head = await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        assert await peer.read() in (b"part", b"")
        assert await peer.reader.read() == b""
        assert b"POST" in head

    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 1000", method="POST") + b"part")
        data = await raw.rest()
        assert data.startswith(b"HTTP/1.1 413 Too Large\r\n")
        assert b"Connection: close" in data
        await raw.close()
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 1", method="POST"))
        assert (await raw.rest()).startswith(b"HTTP/1.1 413 ")
        await raw.close()
        assert backend.connections == 2


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def full_port():
    """A port that answers no connection: its queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
    await asyncio.sleep(0.05)
    return listener.getsockname()[1], [listener, *fillers]


async def test_a_pod_that_does_not_answer_is_left_in_time_and_no_socket_stays():
    async with serving(echo(), timeouts=Timeouts(connect=0.3, request=5)) as (proxy, backend):
        port, held = await full_port()
        before = open_files()
        stalled, other = endpoint(port, "uid-a"), endpoint(backend.port, "uid-b")
        proxy.apply(fleet(stalled, revision=2, timeouts=Timeouts(connect=0.3, request=5)))
        raw = await proxy.connect()
        await raw.send(get("/"))
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 503 ")
        proxy.apply(fleet(stalled, other, revision=3, timeouts=Timeouts(connect=0.3, request=5)))
        for _ in range(2):
            await raw.send(get("/"))
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        assert proxy.plane.counters.connect_failures >= 2
        await raw.close()
        await asyncio.sleep(0.1)
        # The pooled connection to the good pod, both of its ends in this process.
        assert open_files() <= before + 4
        for one in held:
            one.close()


async def test_a_client_that_leaves_while_its_connection_is_made_leaves_nothing():
    async with serving(echo()) as (proxy, _):
        for _ in range(20):
            # The half-close comes with the head: the body can never come.
            assert await proxy.ask(get("/", "Content-Length: 1", method="POST")) == b""
        await asyncio.sleep(0.1)
        assert proxy.plane.counters.exchanges == 0
        assert proxy.plane.counters.upstreams == 0


async def test_a_closed_idle_connection_is_repeated_for_get_only():
    """The backend closes each kept connection when its second request arrives."""

    async def script(peer):
        await peer.request()
        await peer.send(OK)
        await peer.request()

    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/"))
        assert (await raw.answer())[1] == b"ok"
        await raw.send(get("/"))
        assert (await raw.answer())[1] == b"ok"
        assert backend.connections == 2
        await raw.send(get("/", "Content-Length: 1", method="POST") + b"a")
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 502 ")
        assert backend.bytes.count(b"POST ") == 1
        assert proxy.plane.counters.retries == 1
        await raw.close()


async def test_a_request_is_repeated_once_also_where_its_pod_leaves_meanwhile():
    """Both pods close a kept connection when its second request arrives; the first of them leaves then."""

    def one(other):
        async def script(peer):
            await peer.request()
            await peer.send(OK)
            await peer.request()
            if proxy.plane.table.snapshot.revision == 2:
                proxy.apply(fleet(pods[other], revision=3, persistence=NONE))

        return script

    async with serving(one(1), one(0)) as (proxy, *backends):
        pods = [endpoint(backend.port, f"uid-{i}") for i, backend in enumerate(backends)]
        proxy.apply(fleet(*pods, revision=2, persistence=NONE))
        raw = await proxy.connect()
        for _ in pods:
            await raw.send(get("/"))
            await raw.answer()
        await raw.send(get("/leave"))
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 502 ")
        await raw.close()
        assert [backend.bytes.count(b"/leave") for backend in backends] == [1, 1]


async def test_part_of_an_answer_on_a_kept_connection_is_no_reason_to_repeat():
    async def script(peer):
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"HTTP/1.1 2")

    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/"))
        await raw.answer()
        await raw.send(get("/"))
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 502 ")
        assert backend.connections == 1
        await raw.close()


async def test_a_new_pod_on_a_reused_address_inherits_no_connection():
    async with serving(echo()) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/"))
        await raw.answer()
        proxy.apply(fleet(endpoint(backend.port, "uid-new"), revision=2))
        await asyncio.sleep(0.1)
        assert not proxy.plane.counters.upstreams
        await raw.send(get("/"))
        await raw.answer()
        await raw.close()
        assert backend.connections == 2


async def test_a_request_in_flight_outlives_its_endpoint():
    release = asyncio.Event()

    async def script(peer):
        await peer.request()
        await release.wait()
        await peer.send(OK)
        assert await peer.read() == b""

    async with serving(script) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/"))
        await eventually(lambda: backend.bytes.endswith(b"\r\n\r\n"))
        gone = next(proxy.plane.table.endpoints())
        proxy.apply(fleet(revision=2))
        assert gone.in_flight == 1
        release.set()
        assert (await raw.answer())[1] == b"ok"
        assert gone.in_flight == 0
        await raw.close()


async def test_nothing_crosses_between_clients():
    def reply(head, body):
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async with serving(echo(reply), echo(reply)) as (proxy, _, _):

        async def client(number):
            raw = await proxy.connect()
            for i in range(30):
                body = b"%d-%d-" % (number, i) * (1 + i % 7 * 300)
                if i % 2:
                    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                    await raw.send(get("/", "Transfer-Encoding: chunked", method="POST") + sent)
                else:
                    await raw.send(get("/", f"Content-Length: {len(body)}", method="POST") + body)
                if i % 11 == 10:
                    await raw.close()  # walk away in the midst
                    raw = await proxy.connect()
                    continue
                assert (await raw.answer())[1] == body
            await raw.close()

        await asyncio.gather(*(client(number) for number in range(20)))


async def test_a_backend_that_closes_by_proxy_connection_is_not_asked_again():
    answer = OK.replace(b"\r\n\r\n", b"\r\nProxy-Connection: close\r\n\r\n")
    async with serving(echo(lambda *_: answer)) as (proxy, backend):
        for _ in range(2):
            assert (await proxy.ask(get())).endswith(b"\r\n\r\nok")
        assert backend.connections == 2
