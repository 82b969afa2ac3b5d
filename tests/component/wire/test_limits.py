"""What is turned away, and with which answer."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from tests.component.wire.harness import OK, echo, endpoint, eventually, fleet, get, serving
from tests.component.wire.securely import connect, serving_tls

from stickyroute_api.settings import Limits, RetryBudget, Settings
from stickyroute_api.snapshot import Limits as RuleLimits
from stickyroute_proxy.wire import closing, listener
from stickyroute_proxy.wire.admission import LINGERING
from stickyroute_proxy.wire.overload import Overload


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(listener, "TICK", 0.01)
    monkeypatch.setattr(closing, "LINGER", 0.2)


def limited(**limits):
    return Settings(limits=Limits(**limits))


class Gate:
    """A backend that answers when it is told to."""

    def __init__(self):
        self.open = asyncio.Event()
        self.asked = 0

    async def __call__(self, peer):
        with suppress(asyncio.IncompleteReadError):
            while True:
                await peer.request()
                self.asked += 1
                await self.open.wait()
                await peer.send(OK)


async def test_connections_in_all():
    async with serving(echo(), settings=limited(connections=2)) as (proxy, backend):
        inside = [await proxy.connect(), await proxy.connect()]
        await eventually(lambda: proxy.plane.counters.open_connections == 2)
        outside = await proxy.connect()
        answer = await outside.rest()  # nothing needs to be asked
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert b"\r\nRetry-After: " in answer
        await outside.close()
        assert proxy.plane.counters.shed == {"Connections": 1}
        # A flood is not even answered, and none of it stays.
        flood = [await proxy.connect() for _ in range(LINGERING + 20)]
        await eventually(lambda: proxy.plane.counters.shed == {"Connections": 1 + len(flood)})
        assert proxy.plane.lingering <= LINGERING
        await eventually(lambda: not proxy.plane.lingering)
        for raw in flood:
            await raw.close()
        # Those who are in are served, and leave room.
        await inside[0].send(get())
        assert (await inside[0].answer())[0].startswith(b"HTTP/1.1 200 ")
        await inside[1].close()
        await eventually(lambda: proxy.plane.counters.open_connections == 1)
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 200 ")
        await inside[0].close()
        assert backend.connections


async def test_connections_of_one_address():
    async with serving(echo(), settings=limited(connections_per_address=1)) as (proxy, _):
        inside = await proxy.connect()
        await eventually(lambda: proxy.plane.counters.open_connections)
        outside = await proxy.connect()
        answer = await outside.rest()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nConnection: close\r\n" in answer
        await outside.close()
        assert proxy.plane.counters.shed == {"ConnectionsPerAddress": 1}
        # A trusted proxy speaks for many.
        given = proxy.plane.table.snapshot
        trusting = given.settings.model_copy(update={"trusted_proxies": ("127.0.0.0/8",)})
        proxy.apply(given.model_copy(update={"settings": trusting, "revision": 2}))
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 200 ")
        proxy.apply(given.model_copy(update={"revision": 3}))
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 429 ")
        await inside.close()
        await eventually(lambda: not proxy.plane.counters.open_connections)
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 200 ")


async def test_requests_in_flight():
    gate = Gate()
    async with serving(gate, settings=limited(requests=1)) as (proxy, _):
        first, second = await proxy.connect(), await proxy.connect()
        await first.send(get())
        await eventually(lambda: gate.asked)
        for _ in range(2):
            await second.send(get())
            head, _ = await second.answer()
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: " in head
        assert proxy.plane.counters.shed == {"Requests": 2}
        gate.open.set()
        assert (await first.answer())[1] == b"ok"
        await second.send(get())
        assert (await second.answer())[1] == b"ok"
        await first.close()
        await second.close()


@pytest.mark.parametrize("deep", [True, False])
async def test_pipelined_requests(deep):
    """What counts is how many come before an answer, not how many come in all."""
    async with serving(echo(), settings=limited(pipelined=3)) as (proxy, _):
        raw = await proxy.connect()
        if deep:
            await raw.send(get() * 6)
            answers = await raw.rest()
            assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200"] * 4 + [b"429"]
            assert proxy.plane.counters.shed == {"Pipelined": 1}
        else:
            await raw.send(get() * 3)
            for _ in range(20):
                await raw.answer()
                await raw.send(get())
            for _ in range(3):
                await raw.answer()
        await raw.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_asks_too_far_ahead_is_told_as_the_request_wants_it(method):
    """Whatever the method of those before it was."""
    others = "HEAD" if method == "GET" else "GET"
    async with serving(echo(), settings=limited(pipelined=1)) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get(method=others) * 2 + get(method=method))
        head, _, body = (await raw.rest()).partition(b"HTTP/1.1 429 ")[2].partition(b"\r\n\r\n")
        assert len(body) == (int(re.search(rb"Content-Length: (\d+)", head)[1]) if method == "GET" else 0)
        await raw.close()


async def test_a_body_by_its_length_is_not_even_read():
    async with serving(echo(), settings=limited(body_bytes=10)) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/", "Content-Length: 10", method="POST") + b"x" * 10)
        assert (await raw.answer())[1] == b"x" * 10
        await raw.send(get("/", "Content-Length: 11", "Expect: 100-continue", method="POST"))
        answer = await raw.rest()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nConnection: close\r\n" in answer
        await raw.close()
        assert len(backend.requests()) == 1


async def test_a_body_in_chunks_is_counted():
    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        while await peer.read():
            pass

    sent = get("/", "Transfer-Encoding: chunked", method="POST") + b"8\r\n12345678\r\n"
    async with serving(script, settings=limited(body_bytes=10)) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(sent + b"2\r\nab\r\n")
        await eventually(lambda: backend.bytes.endswith(b"ab\r\n"))
        await raw.send(b"1\r\nc\r\n")
        assert (await raw.rest()).startswith(b"HTTP/1.1 413 ")
        await raw.close()
        assert b"\r\nc\r\n" not in backend.bytes


async def test_the_rules_limit_goes_before_the_fleets():
    async with serving(echo(), settings=limited(body_bytes=10), limits=RuleLimits(body_bytes=20)) as (
        proxy,
        _,
    ):
        assert b"x" * 20 in await proxy.ask(get("/", "Content-Length: 20", method="POST") + b"x" * 20)
        assert b"413" in await proxy.ask(get("/", "Content-Length: 21", method="POST") + b"x" * 21)
        unlimited = fleet(
            *proxy.plane.table.snapshot.endpoints["shop/web:80"],
            settings=limited(body_bytes=10),
            limits=RuleLimits(body_bytes=0),
            revision=2,
        )
        proxy.apply(unlimited)
        assert b"x" * 90 in await proxy.ask(get("/", "Content-Length: 90", method="POST") + b"x" * 90)


async def test_a_body_that_grows_too_large_behind_the_answers_beginning_cuts_both():
    ended = asyncio.Event()

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        with suppress(ConnectionError):
            while await peer.read():
                pass
        ended.set()

    async with serving(script, settings=limited(body_bytes=10)) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/", "Transfer-Encoding: chunked", method="POST"))
        await raw.head()
        await raw.send(b"b\r\n12345678901\r\n")
        assert await raw.rest() == b"2\r\nhi\r\n"  # no last chunk: it is seen as cut
        await asyncio.wait_for(ended.wait(), 5)
        await raw.close()


async def test_overloaded_it_goes_on_with_those_it_serves(monkeypatch):
    async with serving(echo()) as (proxy, _):
        known = await proxy.connect()
        await known.send(get())
        await known.answer()

        class Late(Overload):
            def tick(self, late):
                super().tick(1.0)

        with monkeypatch.context() as lagging:
            lagging.setattr(proxy.plane, "_overload", Late())
            await eventually(lambda: proxy.plane.admission.overloaded)
            answer = await proxy.ask(get())
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: " in answer
            assert b"\r\nConnection: close\r\n" in answer
            await known.send(get())
            assert (await known.answer())[0].startswith(b"HTTP/1.1 200 ")
            assert proxy.plane.counters.shed == {"Overload": 1}
        await eventually(lambda: not proxy.plane.admission.overloaded)
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 200 ")
        await known.close()


async def test_a_blocked_loop_is_noticed():
    """The lag is the real one: whoever holds the loop up makes it."""
    async with serving(echo()) as (proxy, _):
        for _ in range(7):
            time.sleep(0.4)  # noqa: ASYNC251 - on purpose
            await asyncio.sleep(0)
        assert proxy.plane.admission.overloaded
        await eventually(lambda: not proxy.plane.admission.overloaded)


async def test_retries_end_with_their_budget():
    async with serving(echo(), settings=Settings(retry_budget=RetryBudget(percent=0, per_second=0))) as (
        proxy,
        _,
    ):
        server = socket.create_server(("127.0.0.1", 0))
        dead = [endpoint(server.getsockname()[1], f"uid-{i}") for i in range(5)]
        server.close()
        settings = proxy.plane.table.snapshot.settings
        proxy.apply(fleet(*dead, revision=2, settings=settings))
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 502 ")
        counters = proxy.plane.counters
        assert (counters.connect_failures, counters.retries, counters.retries_denied) == (1, 0, 1)
        allowing = Settings(retry_budget=RetryBudget(percent=0, per_second=1))
        proxy.apply(fleet(*dead, revision=3, settings=allowing))
        for _ in range(10):
            assert (await proxy.ask(get())).startswith(b"HTTP/1.1 502 ")
        assert counters.retries == 10  # one a second, for ten seconds at once


async def test_a_closed_idle_connection_counts_in_the_budget():
    async def script(peer):
        await peer.request()
        await peer.send(OK)
        await peer.request()

    none = Settings(retry_budget=RetryBudget(percent=0, per_second=0))
    async with serving(script, settings=none) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get())
        await raw.answer()
        await raw.send(get())
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 502 ")
        assert backend.connections == 1
        await raw.close()


STARVED = """
import asyncio, resource, sys, time, uvloop
sys.path[:0] = {path!r}
from tests.component.wire.harness import Proxy, endpoint, fleet

async def main():
    proxy = await Proxy().start(fleet(endpoint({port})))
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    print(proxy.port, flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    before = time.process_time()
    await asyncio.sleep(1)
    print(time.process_time() - before, proxy.plane.counters.shed, flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)

uvloop.run(main())
"""


async def test_without_open_files_it_neither_spins_nor_ends():
    """Nor does it take the pods for dead, or forget those whom it serves."""
    backend = socket.create_server(("127.0.0.1", 0))
    code = STARVED.format(path=[".", *sys.path], port=backend.getsockname()[1])
    child = subprocess.Popen(  # noqa: ASYNC220 - it starts while nothing else runs
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    clients = []
    try:
        at = ("127.0.0.1", int(await asyncio.to_thread(child.stdout.readline)))
        for _ in range(60):
            client = socket.create_connection(at)
            client.settimeout(5)
            clients.append(client)
        await asyncio.sleep(0.3)
        clients[0].sendall(get())
        child.stdin.write("\n")
        child.stdin.flush()
        used, _, shed = (await asyncio.to_thread(child.stdout.readline)).partition(" ")
        assert float(used) < 0.3
        assert shed == "{<Cause.OPEN_FILES: 'OpenFiles'>: 1}\n"
        assert (await asyncio.to_thread(clients[0].recv, 100)).startswith(b"HTTP/1.1 503 ")
        for client in clients[1:]:
            client.close()
        await asyncio.sleep(0.2)
        with socket.create_connection(at) as fresh:
            fresh.settimeout(5)
            fresh.sendall(b"nonsense\r\n\r\n")
            assert fresh.recv(100).startswith(b"HTTP/1.1 400 ")
    finally:
        child.kill()
        child.wait()
        for one in (child.stdin, child.stdout, backend, *clients):
            one.close()


async def test_connections_of_one_address_that_stall_before_tls():
    async with serving_tls(echo(), settings=limited(connections_per_address=2, connections=5)) as (proxy, _):
        plane = proxy.plane
        stalled = [await asyncio.open_connection("127.0.0.1", proxy.https) for _ in range(9)]
        await eventually(lambda: sum(plane.counters.shed.values()) == 7)
        assert plane.counters.shed == {"ConnectionsPerAddress": 7}
        assert len(plane.openings) == 2
        # A change of the limits counts them, too.
        given = plane.table.snapshot
        settings = limited(connections_per_address=3)
        proxy.apply(given.model_copy(update={"settings": settings, "revision": 3}))
        third = await proxy.connect()
        assert (await proxy.ask(get())).startswith(b"HTTP/1.1 429 ")
        await third.close()
        for _, writer in stalled:
            writer.close()
        await eventually(lambda: not plane.openings)
        raw = await connect(proxy.https)
        await raw.send(get())
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        await raw.close()


async def test_connections_of_one_address_that_a_proxy_brings_and_that_stall_before_tls():
    settings = Settings(
        trusted_proxies=("127.0.0.0/8",), proxy_protocol=True, limits=Limits(connections_per_address=2)
    )
    async with serving_tls(echo(), settings=settings) as (proxy, _):
        plane = proxy.plane
        stalled = []
        for _ in range(5):
            stalled.append(await asyncio.open_connection("127.0.0.1", proxy.https))
            stalled[-1][1].write(b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n")
        await eventually(lambda: plane.counters.shed == {"ConnectionsPerAddress": 3})
        assert sorted(plane.openings.values()) == ["192.0.2.1"] * 2
        for _, writer in stalled:
            writer.close()
        await eventually(lambda: not plane.openings)
