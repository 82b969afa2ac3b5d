"""Pods at their limits: new sessions go elsewhere, wait or are turned away; those that are bound stay."""

import asyncio
import re

import pytest
from tests.component.wire.harness import eventually, get, serving
from tests.component.wire.test_balancing import named
from tests.component.wire.test_queue import Gate

from stickyroute_api.leases import Lease, Leases
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Cookie, Limits, Persistence, SessionLimits
from stickyroute_proxy.affinity import quota
from stickyroute_proxy.wire import listener

SCOPE = "shop/shop/web"


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(listener, "TICK", 0.01)


def limited(**limits):
    return Persistence(type="Cookie", cookie=Cookie(name="sr"), limits=SessionLimits(**limits))


async def ask(proxy, cookie="", path="/"):
    """Status, pod and cookie of one request."""
    raw = await proxy.connect()
    await raw.send(get(path, f"Cookie: {cookie}") if cookie else get(path))
    head, body = await raw.answer()
    await raw.close()
    given = re.search(rb"set-cookie: (sr=[^;]+)", head)
    return int(head[9:12]), body, given.group(1).decode() if given else cookie, head


def lend(proxy, sequence=1, **placed):
    scopes = {SCOPE: {f"uid-{pod}": Lease(placed=count) for pod, count in placed.items()}}
    proxy.plane.table.obey(Leases(fleet="stickyroute", epoch=1, sequence=sequence, scopes=scopes))


def scope(proxy):
    return proxy.plane.table.scopes[SCOPE]


async def test_new_sessions_go_to_pods_below_their_limit_and_then_nowhere():
    async with serving(named(b"a"), named(b"b"), persistence=limited(sessions=2)) as (proxy, *_):
        begun = [await ask(proxy) for _ in range(4)]
        assert sorted(body for _, body, *_ in begun) == [b"a", b"a", b"b", b"b"]
        status, body, _, head = await ask(proxy)
        assert status == 503
        assert b"Retry-After: 1" in head
        assert b"every endpoint has as many sessions" in body
        assert scope(proxy).others[BindingReason.AT_LIMIT] == scope(proxy).rejected == 1
        for _, body, cookie, _ in begun:
            assert (await ask(proxy, cookie))[:2] == (200, body)


async def test_a_lease_makes_room_and_takes_it():
    async with serving(named(b"a"), named(b"b"), persistence=limited(sessions=9)) as (proxy, *_):
        lend(proxy, a=0, b=2)
        assert [(await ask(proxy))[1] for _ in range(2)] == [b"b", b"b"]
        assert (await ask(proxy))[0] == 503
        lend(proxy, 2, a=1, b=2)
        assert (await ask(proxy))[:2] == (200, b"a")
        assert (await ask(proxy))[0] == 503
        lend(proxy, 3)
        assert (await ask(proxy))[0] == 503, "what leases do not name stays as it was"


async def test_who_never_comes_back_gives_the_place_back(monkeypatch):
    async with serving(named(b"a"), persistence=limited(sessions=1)) as (proxy, _):
        assert (await ask(proxy))[0] == 200
        assert (await ask(proxy))[0] == 503
        monkeypatch.setattr(quota, "PENDING_SECONDS", 0.0)
        await eventually(lambda: not scope(proxy).sessions.quota._pending)
        monkeypatch.undo()
        status, _, cookie, _ = await ask(proxy)
        assert status == 200
        assert (await ask(proxy, cookie))[0] == 200
        scope(proxy).sessions.quota.expire(proxy.plane.clock() + 100)
        assert (await ask(proxy))[0] == 503, "who has come back keeps it"


async def test_reject_turns_away_at_once():
    async with serving(named(b"a"), named(b"b"), persistence=limited(sessions=5, overflow="Reject")) as (
        proxy,
        *_,
    ):
        lend(proxy, a=0, b=5)
        assert sorted([(await ask(proxy))[0] for _ in range(4)]) == [200, 200, 503, 503]


async def test_a_queue_waits_for_room():
    async with serving(named(b"a"), persistence=limited(sessions=9, overflow="Queue")) as (proxy, _):
        lend(proxy, a=0)
        clients = [asyncio.create_task(ask(proxy)) for _ in range(3)]
        await eventually(lambda: proxy.plane.counters.queued == 3)
        lend(proxy, 2, a=2)
        await eventually(lambda: proxy.plane.counters.queued == 1)
        assert scope(proxy).rejected == 0
        lend(proxy, 3, a=3)
        assert [(await client)[0] for client in clients] == [200] * 3


async def test_a_queue_has_its_length_and_its_time():
    rule = {
        "persistence": limited(sessions=9, overflow="Queue"),
        "limits": Limits(queue=1, queue_timeout=0.2),
    }
    async with serving(named(b"a"), **rule) as (proxy, _):
        lend(proxy, a=0)
        waits = asyncio.create_task(ask(proxy))
        await eventually(lambda: proxy.plane.counters.queued == 1)
        status, body, *_ = await ask(proxy)
        assert (status, b"may wait" in body) == (503, True)
        status, body, *_ = await waits
        assert (status, b"none ended within the queue timeout (0.2 s)" in body) == (503, True)
        assert scope(proxy).others[BindingReason.AT_LIMIT] == 2


async def test_who_gives_up_waiting_leaves_the_queue():
    async with serving(named(b"a"), persistence=limited(sessions=9, overflow="Queue")) as (proxy, _):
        lend(proxy, a=0)
        raw = await proxy.connect()
        await raw.send(get())
        await eventually(lambda: proxy.plane.counters.queued == 1)
        raw.reset()
        await eventually(lambda: proxy.plane.counters.queued == 0)
        assert not scope(proxy).sessions.quota.waiting


async def test_limits_that_are_lifted_let_all_go_on_who_wait():
    async with serving(named(b"a"), persistence=limited(sessions=9, overflow="Queue")) as (proxy, _):
        lend(proxy, a=0)
        waits = asyncio.create_task(ask(proxy))
        await eventually(lambda: proxy.plane.counters.queued == 1)
        given = proxy.plane.table.snapshot
        route = given.routes["shop/shop"]
        (rule,) = route.rules
        rule = rule.model_copy(update={"persistence": Persistence(type="Cookie", cookie=Cookie(name="sr"))})
        route = route.model_copy(update={"rules": (rule,)})
        proxy.apply(given.model_copy(update={"routes": {"shop/shop": route}, "revision": 2}))
        assert (await waits)[0] == 200
        assert scope(proxy).sessions.quota is None


@pytest.mark.parametrize("kind", ["Cookie", "None"])
async def test_requests_in_flight_keep_new_sessions_away(kind):
    policy = limited(requests=1)
    if kind == "None":
        policy = Persistence(limits=policy.limits)
    gate = Gate()
    async with serving(gate, named(b"b"), persistence=policy) as (proxy, *_):
        slow = await proxy.connect()
        await slow.send(get("/slow"))
        if not gate.asked:
            other = await proxy.connect()
            await other.send(get("/slow"))
            await eventually(lambda: gate.asked)
            await other.close()
        assert [(await ask(proxy))[1] for _ in range(4)] == [b"b"] * 4
        gate.let(2)
        await slow.answer()
        await slow.close()


async def test_a_session_that_loses_its_pod_goes_where_there_is_room_and_else_anywhere():
    async with serving(named(b"a"), named(b"b"), named(b"c"), persistence=limited(sessions=9)) as (proxy, *_):
        lend(proxy, a=4, b=0, c=9)
        cookies = []
        while len(cookies) < 4:
            _, body, cookie, _ = await ask(proxy)
            if body == b"a":
                cookies.append(cookie)
        given = proxy.plane.table.snapshot
        _, b, c = given.endpoints["shop/web:80"]
        proxy.apply(given.model_copy(update={"endpoints": {"shop/web:80": (b, c)}, "revision": 2}))
        assert {(await ask(proxy, cookie))[1] for cookie in cookies[:3]} == {b"c"}
        lend(proxy, 2, b=0, c=0)
        assert {(await ask(proxy, cookie))[0] for cookie in cookies} == {200}


async def test_a_pod_that_has_been_full_for_a_while_is_told_of(monkeypatch):
    monkeypatch.setattr(quota, "SETTLED", 5.0)
    async with serving(named(b"a"), persistence=limited(sessions=1)) as (proxy, _):
        (one,) = proxy.plane.table.endpoints()
        found = scope(proxy).sessions.quota
        await ask(proxy)
        assert [found.state(one, now) for now in (10.0, 14.0, 15.0)] == [None, None, EndpointState.AT_LIMIT]
        lend(proxy, a=2)
        assert found.state(one, 16.0) is None


async def test_who_gives_up_while_those_who_wait_are_about_to_decide_anew():
    """Health checks have found something, and not all routes have followed yet."""
    async with serving(named(b"a"), persistence=limited(sessions=9, overflow="Queue")) as (proxy, _):
        plane = proxy.plane
        lend(proxy, a=0)
        raw = await proxy.connect()
        await raw.send(get())
        await eventually(lambda: plane.counters.queued == 1)
        (waits,) = scope(proxy).sessions.quota.waiting._waiting
        plane.table.stale["shop/shop"] = None
        lend(proxy, 2, a=1)
        plane.table.sweep(plane.clock())
        waits.abandon()
        assert plane.counters.queued == plane.counters.exchanges == 0
        plane.table.freshen()
        await raw.close()


async def test_who_waits_for_room_in_a_scope_that_is_no_more_decides_anew():
    async with serving(named(b"a"), persistence=limited(sessions=9, overflow="Queue")) as (proxy, _):
        lend(proxy, a=0)
        waits = asyncio.create_task(ask(proxy))
        await eventually(lambda: proxy.plane.counters.queued == 1)
        given = proxy.plane.table.snapshot
        route = given.routes["shop/shop"]
        (rule,) = route.rules
        route = route.model_copy(update={"rules": (rule.model_copy(update={"scope": "own"}),)})
        proxy.apply(given.model_copy(update={"routes": {"shop/shop": route}, "revision": 2}))
        await eventually(lambda: proxy.plane.counters.queued == 0)
        assert (await waits)[0] == 200
