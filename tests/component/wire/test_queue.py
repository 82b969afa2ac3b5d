"""Requests that wait for room on an endpoint."""

import asyncio
import re
from contextlib import suppress

import pytest
from tests.component.wire.harness import endpoint, eventually, fleet, get, serving

from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Limits, Match
from stickyroute_proxy.wire import listener


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(listener, "TICK", 0.01)


class Gate:
    """A backend that answers one request each time it is told to, and knows what it was asked."""

    def __init__(self):
        self.asked = []
        self._permits = asyncio.Semaphore(0)

    def let(self, count=1):
        for _ in range(count):
            self._permits.release()

    async def __call__(self, peer):
        with suppress(asyncio.IncompleteReadError):
            while True:
                head, body = await peer.request()
                self.asked.append(head.split(b" ")[1].decode())
                await self._permits.acquire()
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def one_at_a_time(queue=100, **limits):
    return Limits(requests_per_endpoint=1, queue=queue, **limits)


async def ask(proxy, path, *lines, **request):
    raw = await proxy.connect()
    await raw.send(get(path, *lines, **request))
    return raw


async def waiting(proxy, count):
    await eventually(lambda: proxy.plane.counters.queued == count)


async def test_first_come_first_served():
    gate = Gate()
    async with serving(gate, limits=one_at_a_time()) as (proxy, _):
        clients = []
        for number in range(10):
            clients.append(await ask(proxy, f"/{number}"))
            await eventually(lambda number=number: proxy.plane.counters.queued + len(gate.asked) > number)
        assert gate.asked == ["/0"]
        (one,) = proxy.plane.table.endpoints()
        for raw in clients:
            assert one.in_flight == 1
            gate.let()
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
            await raw.close()
        assert gate.asked == [f"/{number}" for number in range(10)]
        assert proxy.plane.counters.queued_total == 9


async def test_the_body_waits_with_its_request():
    gate = Gate()
    size = 20_000_000
    async with serving(gate, limits=one_at_a_time()) as (proxy, _):
        first = await ask(proxy, "/first")
        await eventually(lambda: gate.asked)
        second = await proxy.connect()
        body = b"x" * size
        sending = asyncio.create_task(
            second.send(get("/second", f"Content-Length: {size}", method="POST") + body)
        )
        await waiting(proxy, 1)
        await asyncio.sleep(0.2)
        assert not sending.done()
        assert max(len(one._buffer) for one in proxy.plane.active) < 1_000_000
        gate.let(2)
        await first.answer()
        assert (await second.answer())[1] == body
        await sending
        await first.close()
        await second.close()


async def test_a_full_queue():
    gate = Gate()
    async with serving(gate, limits=one_at_a_time(queue=1)) as (proxy, _):
        first = await ask(proxy, "/first")
        await eventually(lambda: gate.asked)
        second = await ask(proxy, "/second")
        await waiting(proxy, 1)
        third = await ask(proxy, "/third")
        head, body = await third.answer()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in head
        assert b"as many requests as may wait for the endpoint do so already" in body
        assert proxy.plane.counters.shed == {"QueueFull": 1}
        gate.let(2)
        for raw in (first, second):
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        for raw in (first, second, third):
            await raw.close()


async def test_who_goes_leaves_the_queue():
    gate = Gate()
    async with serving(gate, limits=one_at_a_time()) as (proxy, _):
        first = await ask(proxy, "/first")
        await eventually(lambda: gate.asked)
        second, third = await ask(proxy, "/second"), await ask(proxy, "/third")
        await waiting(proxy, 2)
        second.reset()
        await waiting(proxy, 1)
        gate.let(2)
        await first.answer()
        await third.answer()
        assert gate.asked == ["/first", "/third"]
        for raw in (first, third):
            await raw.close()


@pytest.mark.parametrize("goes", [True, False])
async def test_an_endpoint_that_goes_while_it_is_waited_for(goes):
    """What waits is decided anew: the session moves, and is told why."""
    old, new = Gate(), Gate()
    new.let(9)
    async with serving(old, new, limits=one_at_a_time()) as (proxy, a, b):
        ends = [endpoint(a.port, "uid-a"), endpoint(b.port, "uid-b")]
        proxy.apply(fleet(ends[0], limits=one_at_a_time(), revision=2))
        old.let()
        first = await ask(proxy, "/0")
        head, _ = await first.answer()
        token = "Cookie: " + re.search(rb"set-cookie: (sr=[^;]+)", head)[1].decode()
        await first.send(get("/1", token))
        await eventually(lambda: len(old.asked) == 2)
        second, third = await ask(proxy, "/2", token), await ask(proxy, "/3", token)
        await waiting(proxy, 2)
        unready = endpoint(a.port, "uid-a", state=EndpointState.NOT_READY, serving=False)
        left = [ends[1]] if goes else [unready, ends[1]]
        proxy.apply(fleet(*left, limits=one_at_a_time(), revision=3))
        await waiting(proxy, 0)
        for raw in (second, third):
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        assert new.asked == ["/2", "/3"]
        assert b"x-session-lost: " + (b"PodTerminated" if goes else b"PodNotReady") in b.bytes
        old.let()
        await first.answer()
        for raw in (first, second, third):
            await raw.close()


async def test_new_sessions_go_where_there_is_room_and_bound_ones_wait():
    busy, free = Gate(), Gate()
    async with serving(busy, free, limits=one_at_a_time()) as (proxy, a, b):
        ends = [endpoint(a.port, "uid-a"), endpoint(b.port, "uid-b")]
        proxy.apply(fleet(ends[0], limits=one_at_a_time(), revision=2))
        busy.let()
        bound = await ask(proxy, "/0")
        token = "Cookie: " + re.search(rb"set-cookie: (sr=[^;]+)", (await bound.answer())[0])[1].decode()
        proxy.apply(fleet(*ends, limits=one_at_a_time(), revision=3))
        await bound.send(get("/1", token))
        await eventually(lambda: len(busy.asked) == 2)
        again = await ask(proxy, "/2", token)
        await waiting(proxy, 1)
        for number in range(4):
            free.let()
            fresh = await ask(proxy, f"/fresh{number}")
            head, _ = await fresh.answer()
            assert b"set-cookie: sr=" in head
            # The token names the pod that has answered.
            given = "Cookie: " + re.search(rb"set-cookie: (sr=[^;]+)", head)[1].decode()
            free.let()
            await fresh.send(get(f"/kept{number}", given))
            await fresh.answer()
            await fresh.close()
        assert len(free.asked) == 8
        assert proxy.plane.counters.queued == 1
        busy.let(2)
        await bound.answer()
        await again.answer()
        assert busy.asked == ["/0", "/1", "/2"]
        await bound.close()
        await again.close()


async def test_more_room_is_used_at_once_and_in_order():
    gate = Gate()
    async with serving(gate, limits=one_at_a_time()) as (proxy, a):
        clients = [await ask(proxy, "/0")]
        await eventually(lambda: gate.asked)
        for number in range(1, 5):
            clients.append(await ask(proxy, f"/{number}"))
            await waiting(proxy, number)
        wider = Limits(requests_per_endpoint=3)
        proxy.apply(fleet(endpoint(a.port, "uid-a"), limits=wider, revision=2))
        await eventually(lambda: len(gate.asked) == 3)
        assert sorted(gate.asked) == ["/0", "/1", "/2"]
        assert proxy.plane.counters.queued == 2
        proxy.apply(fleet(endpoint(a.port, "uid-a"), limits=Limits(), revision=3))
        await eventually(lambda: len(gate.asked) == 5)
        gate.let(5)
        for raw in clients:
            await raw.answer()
            await raw.close()


async def test_the_drain_waits_for_the_queue():
    gate = Gate()
    async with serving(gate, limits=one_at_a_time()) as (proxy, _):
        first = await ask(proxy, "/first")
        await eventually(lambda: gate.asked)
        second = await ask(proxy, "/second")
        await waiting(proxy, 1)
        draining = asyncio.create_task(proxy.plane.drain(0, 5))
        gate.let(2)
        for raw in (first, second):
            head, _ = await raw.answer()
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close\r\n" in head
            await raw.close()
        await draining


async def test_a_failing_endpoint_keeps_no_room():
    async def refusing(peer):
        await peer.request()
        await peer.send(b"nonsense\r\n\r\n")

    async with serving(refusing, limits=one_at_a_time()) as (proxy, _):
        clients = [await ask(proxy, f"/{number}") for number in range(30)]
        for raw in clients:
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 502 ")
            await raw.close()


async def test_many_come_and_go():
    """Whatever clients do, each that stays is answered and no room is lost."""

    async def script(peer):
        with suppress(asyncio.IncompleteReadError):
            while True:
                _, body = await peer.request()
                await asyncio.sleep(0.001)
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    limits = Limits(requests_per_endpoint=2, queue=1000, queue_timeout=30)
    async with serving(script, script, limits=limits) as (proxy, _, _):

        async def client(number):
            for turn in range(10):
                raw = await proxy.connect()
                body = b"%d-%d" % (number, turn)
                await raw.send(get("/", f"Content-Length: {len(body)}", method="POST") + body)
                if (number + turn) % 3:
                    assert (await raw.answer())[1] == body
                else:
                    await asyncio.sleep(0.001 * (number % 5))
                await raw.close()

        await asyncio.gather(*(client(number) for number in range(40)))
        assert proxy.plane.counters.queued_total > 100
        # Those who closed may have closed their half only: they are served too.
        await eventually(lambda: not any(one.queue for one in proxy.plane.table.endpoints()))


async def test_who_goes_lets_those_behind_on_that_have_room():
    """Rules of one Service may let its endpoints have more requests, or fewer, than others do."""
    gate = Gate()
    async with serving(gate, limits=one_at_a_time()) as (proxy, _):
        given = proxy.plane.table.snapshot
        route = given.routes["shop/shop"]
        (rule,) = route.rules
        wide = rule.model_copy(
            update={
                "name": "wide",
                "matches": (Match(path="/wide"),),
                "limits": Limits(requests_per_endpoint=2),
            }
        )
        route = route.model_copy(update={"rules": (rule, wide)})
        proxy.apply(given.model_copy(update={"routes": {"shop/shop": route}, "revision": 2}))
        first = await ask(proxy, "/first")
        await eventually(lambda: gate.asked)
        narrow = await ask(proxy, "/narrow")
        await waiting(proxy, 1)
        behind = await ask(proxy, "/wide")
        await waiting(proxy, 2)
        narrow.reset()
        await waiting(proxy, 0)
        await eventually(lambda: gate.asked == ["/first", "/wide"])
        gate.let(2)
        for raw in (first, behind):
            assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
            await raw.close()
