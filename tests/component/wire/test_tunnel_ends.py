"""WebSockets whose binding ends: told so with code 1001 between two frames, and counted, each for itself."""

import asyncio
import contextlib
import time

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from tests.component.wire.apps import Clock
from tests.component.wire.harness import (
    COOKIE,
    Backend,
    Proxy,
    echo,
    endpoint,
    eventually,
    fleet,
    get,
    serving,
)
from tests.component.wire.test_streams import SWITCH, UPGRADE

from stickyroute_api import snapshot
from stickyroute_api.reasons import EndpointState
from stickyroute_proxy.wire import listener, tunnel, tunnels

SPREAD = tunnels.SPREAD
TEXT = b"\x81\x05hello"
GOING_AWAY = b"\x88\x02\x03\xe9"


def policy(**more):
    return snapshot.Persistence(type="Cookie", cookie=snapshot.Cookie(name=COOKIE), **more)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(listener, "TICK", 0.02)
    monkeypatch.setattr(tunnels, "SPREAD", 0.1)


@pytest.fixture
async def app():
    """An application that echoes, and notes how its WebSockets end."""
    closed = []

    async def talk(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        closed.append(socket.close_code)
        return socket

    application = web.Application()
    application.router.add_get("/chat", talk)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1], closed
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def chat(proxy, count=1):
    """So many WebSockets of a real client, each having talked."""
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        sockets = []
        for _ in range(count):
            url = f"http://127.0.0.1:{proxy.port}/chat"
            socket = await stack.enter_async_context(session.ws_connect(url))
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
            sockets.append(socket)
        yield sockets


@contextlib.asynccontextmanager
async def before(given, **options):
    proxy = await Proxy(**options).start(given)
    try:
        yield proxy
    finally:
        await proxy.plane.drain(0, 0.2)
        await eventually(lambda: not proxy.plane.counters.upstreams)
        assert proxy.plane.counters.exchanges == proxy.plane.counters.tunnels == len(proxy.plane.tunnels) == 0


def order(action, since=0.0):
    def change(made):
        override = snapshot.Override(pod="a", action=action, since=since)
        route = made.routes["shop/shop"].model_copy(update={"overrides": (override,)})
        return {"routes": {"shop/shop": route}}

    return change


def draining(since):
    def change(made):
        first, *others = made.endpoints["shop/web:80"]
        state = {"state": EndpointState.DRAINING, "draining_since": since}
        return {"endpoints": {"shop/web:80": (first.model_copy(update=state), *others)}}

    return change


def gone(made):
    return {"endpoints": {"shop/web:80": made.endpoints["shop/web:80"][1:]}}


def raised(made):
    route = made.routes["shop/shop"]
    rule = route.rules[0].model_copy(update={"persistence": policy(epoch=1)})
    return {"routes": {"shop/shop": route.model_copy(update={"rules": (rule,)})}}


def left(made):
    """The pod is no longer behind this route's Service, and lives on behind another's."""
    first, *others = made.endpoints["shop/web:80"]
    backends = (snapshot.Backend(service="other", endpoints="shop/other:80"),)
    route = made.routes["shop/shop"]
    rule = route.rules[0].model_copy(update={"name": "other", "scope": "other", "backends": backends})
    other = route.model_copy(update={"name": "other", "hosts": ("other.example.com",), "rules": (rule,)})
    return {
        "routes": {"shop/shop": route, "shop/other": other},
        "endpoints": {"shop/web:80": tuple(others), "shop/other:80": (first,)},
    }


def unwell(_):
    """Checks of what the application does not have, and the other pod has."""
    check = snapshot.ActiveCheck(path="/healthz", interval=0.05, timeout=1.0, unhealthy=2)
    return {"health": {"shop/web:80": snapshot.HealthCheck(active=check)}}


LATER = time.time() + 1000


def test_how_long_an_end_takes_is_as_the_docs_say():
    assert (SPREAD, tunnel.BOUNDARY, tunnel.GOODBYE) == (5.0, 1.0, 5.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (draining(1.0), "PodTerminated"),
        (gone, "PodTerminated"),
        (order("Disable"), "PodDisabled"),
        (order("Release", LATER), "Released"),
        (raised, "EpochRaised"),
        (left, "PolicyChanged"),
        (unwell, "PodUnhealthy"),
    ],
)
async def test_the_end_of_a_binding_is_told_to_both_sides(app, change, reason):
    port, closed = app
    # The other pod is there to go to; nobody but checks connects to it.
    other = await Backend(echo()).start()
    joining = endpoint(other.port, "uid-b", state=EndpointState.JOINING)
    made = fleet(endpoint(port), joining, persistence=policy())
    async with before(made) as proxy, chat(proxy, 3) as sockets:
        assert proxy.plane.tunnels.counts() == {("shop/shop/web", "uid-a"): 3}
        proxy.apply(made.model_copy(update={"revision": 2, **change(made)}))
        for socket in sockets:
            message = await socket.receive(timeout=5)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await eventually(lambda: closed == [1000] * 3)  # this client answers so, and the pod sees it leave
        await eventually(lambda: not proxy.plane.tunnels)
        assert proxy.plane.counters.tunnels_ended == {reason: 3}
    await other.stop()


@pytest.mark.parametrize(
    "change",
    [draining(LATER), order("Drain"), order("Release", 1.0)],
    ids=["its drain has time left", "no new sessions only", "released before it began"],
)
async def test_a_binding_that_holds_keeps_its_tunnels(app, change):
    port, _ = app
    made = fleet(endpoint(port), endpoint(port, "uid-b", state=EndpointState.JOINING), persistence=policy())
    async with before(made) as proxy, chat(proxy) as (socket,):
        proxy.apply(made.model_copy(update={"revision": 2, **change(made)}))
        await asyncio.sleep(0.3)
        await socket.send_str("still there")
        assert (await socket.receive(timeout=5)).data == "still there"


@pytest.mark.parametrize(("kind", "ends"), [("Cookie", True), ("None", False)])
async def test_the_end_of_the_absolute_timer_is_told_though_the_pod_stays(app, kind, ends):
    port, closed = app
    clock = Clock()
    given = policy(absolute_timeout=100.0)
    if kind == "None":
        given = given.model_copy(update={"type": "None", "cookie": None})
    made = fleet(endpoint(port), persistence=given)
    async with before(made, clock=clock) as proxy, chat(proxy, 2) as sockets:
        clock.now += 99
        await asyncio.sleep(0.3)
        for socket in sockets:
            await socket.send_str("still there")
            assert (await socket.receive(timeout=5)).data == "still there"
        clock.now += 2
        if not ends:
            await asyncio.sleep(0.3)
        for socket in sockets if ends else ():
            message = await socket.receive(timeout=5)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await eventually(lambda: len(closed) == 2 * ends)
        assert proxy.plane.counters.tunnels_ended == ({"AbsoluteTimeout": 2} if ends else {})


async def test_a_drain_without_another_pod_keeps_its_tunnels(app):
    port, _ = app
    made = fleet(endpoint(port), persistence=policy())
    async with before(made) as proxy, chat(proxy) as (socket,):
        proxy.apply(made.model_copy(update={"revision": 2, **draining(1.0)(made)}))
        await asyncio.sleep(0.3)
        await socket.send_str("still there")
        assert (await socket.receive(timeout=5)).data == "still there"


@pytest.mark.parametrize("change", [draining(1.0), gone], ids=["its drain is over", "gone"])
async def test_a_rule_without_sessions_ends_its_tunnels_with_their_pod(app, change):
    port, closed = app
    made = fleet(
        endpoint(port),
        endpoint(port, "uid-b", state=EndpointState.JOINING),
        persistence=snapshot.Persistence(drain_timeout=60.0),
    )
    async with before(made) as proxy, chat(proxy, 3) as sockets:
        proxy.apply(made.model_copy(update={"revision": 2, **draining(time.time())(made)}))
        await asyncio.sleep(0.3)
        for socket in sockets:
            await socket.send_str("still there")
            assert (await socket.receive(timeout=5)).data == "still there"
        proxy.apply(made.model_copy(update={"revision": 3, **change(made)}))
        for socket in sockets:
            message = await socket.receive(timeout=5)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await eventually(lambda: closed == [1000] * 3)
        await eventually(lambda: not proxy.plane.tunnels)
        assert proxy.plane.counters.tunnels_ended == {"PodTerminated": 3}


async def test_tunnels_of_one_cause_are_spread(app, monkeypatch):
    monkeypatch.setattr(tunnels, "SPREAD", SPREAD)
    port, _ = app
    made = fleet(endpoint(port), endpoint(port, "uid-b", state=EndpointState.JOINING), persistence=policy())
    async with before(made) as proxy, chat(proxy, 12) as sockets:
        proxy.apply(made.model_copy(update={"revision": 2, **gone(made)}))
        ends = await asyncio.gather(*(self_timed(socket) for socket in sockets))
        # Where twelve of the seed's numbers lie leaves room for a machine that is late.
        assert max(ends) - min(ends) > SPREAD / 2


async def self_timed(socket):
    assert (await socket.receive(timeout=10)).data == 1001
    return time.monotonic()


def upstream(after, *parts):
    """A backend that begins a frame, and sends the parts once `after` is set."""

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(SWITCH + TEXT + TEXT[:3])
        await after.wait()
        for part in parts:
            await peer.send(part)
            await asyncio.sleep(0.05)
        await peer.read()

    return script


@pytest.mark.parametrize(
    "parts", [(TEXT[3:] + TEXT,), (TEXT[3:5], TEXT[5:], TEXT)], ids=["at once", "in pieces"]
)
async def test_a_frame_under_way_is_the_last(parts):
    go = asyncio.Event()
    async with serving(upstream(go, *parts), persistence=policy()) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/chat", *UPGRADE))
        await raw.head()
        assert await raw.reader.readexactly(len(TEXT) + 3) == TEXT + TEXT[:3]
        made = proxy.plane.table.snapshot
        proxy.apply(made.model_copy(update={"revision": 2, "endpoints": {"shop/web:80": ()}}))
        await asyncio.sleep(0.3)
        go.set()
        assert await raw.reader.readexactly(len(TEXT) - 3 + 4) == TEXT[3:] + GOING_AWAY
        await raw.send(b"\x88\x82maskxx")
        assert await raw.rest() == b""
        await raw.close()


async def test_a_frame_without_end_is_cut():
    async with serving(upstream(asyncio.Event()), persistence=policy()) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/chat", *UPGRADE))
        await raw.head()
        made = proxy.plane.table.snapshot
        began = time.monotonic()
        proxy.apply(made.model_copy(update={"revision": 2, "endpoints": {"shop/web:80": ()}}))
        assert await raw.rest() == TEXT + TEXT[:3]
        assert time.monotonic() - began >= tunnel.BOUNDARY
        await raw.close()
        assert proxy.plane.counters.tunnels_ended == {"PodTerminated": 1}


async def test_who_does_not_answer_a_goodbye_is_closed(monkeypatch):
    monkeypatch.setattr(tunnel, "GOODBYE", 0.1)

    async def script(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(SWITCH + TEXT)
        await peer.read()

    async with serving(script, persistence=policy()) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get("/chat", *UPGRADE))
        await raw.head()
        made = proxy.plane.table.snapshot
        proxy.apply(made.model_copy(update={"revision": 2, "endpoints": {"shop/web:80": ()}}))
        assert await raw.rest() == TEXT + GOING_AWAY
        await raw.close()
