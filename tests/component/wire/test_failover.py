"""What a client sees when its session's pod is gone, by the failover mode; and waiting for it."""

import asyncio
import re

import pytest
from tests.component.wire.harness import (
    COOKIE,
    Backend,
    Proxy,
    echo,
    endpoint,
    eventually,
    fleet,
    get,
)

from stickyroute_api import snapshot
from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Failover
from stickyroute_proxy.wire import listener

AWAY = EndpointState.NOT_READY


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(listener, "TICK", 0.01)


def persistence(**failover):
    cookie = snapshot.Cookie(name=COOKIE, path="/shop", domain="example.com", same_site="Strict")
    return snapshot.Persistence(
        type="Cookie", cookie=cookie, idle_timeout=1000, failover=Failover(**failover)
    )


def named(name):
    return echo(lambda head, body: b"HTTP/1.1 200 OK\r\nX-Pod: %b\r\nContent-Length: 0\r\n\r\n" % name)


class Stage:
    """A proxy before two pods, and a client whose session is on the first of them, which then goes away."""

    async def __aenter__(self):
        self.pods = [await Backend(named(name)).start() for name in (b"a", b"b")]
        self.proxy = await Proxy().start()
        self.revision = 0
        return self

    async def __aexit__(self, *_):
        plane = self.proxy.plane
        await plane.drain(0, 0.2)
        for pod in self.pods:
            await pod.stop()
        assert plane.counters.queued == plane.counters.exchanges == 0

    def apply(self, policy, state=EndpointState.SERVING, *, gone=False, **rule):
        self.revision += 1
        a, b = (pod.port for pod in self.pods)
        away = state is AWAY
        first = () if gone else (endpoint(a, "uid-a", state=state, serving=not away),)
        self.proxy.apply(
            fleet(*first, endpoint(b, "uid-b"), revision=self.revision, persistence=policy, **rule)
        )

    async def ask(self, token, method="GET", body=b""):
        raw = await self.proxy.connect()
        fields = ["Connection: close"]
        if token is not None:
            fields.append(f"Cookie: {COOKIE}={token}")
        if body:
            fields.append(f"Content-Length: {len(body)}")
        await raw.send(get("/shop", *fields, method=method) + body)
        answer = await raw.rest()
        await raw.close()
        return answer

    async def token_on_a(self):
        while True:
            answer = await self.ask(None)
            if b"X-Pod: a" in answer:
                return re.search(rb"sr=([^;]+)", answer)[1].decode()


async def test_reject_answers_its_status_and_keeps_the_binding_while_the_pod_lives():
    async with Stage() as stage:
        policy = persistence(mode="Reject", status=499)
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        for _ in range(2):
            answer = await stage.ask(token)
            assert answer.startswith(b"HTTP/1.1 499 Client Error\r\n")
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert b"et-cookie" not in answer.lower()
        stage.apply(policy)
        assert b"X-Pod: a" in await stage.ask(token)


async def test_reject_clears_the_token_of_a_pod_that_is_gone_for_good():
    async with Stage() as stage:
        policy = persistence(mode="Reject")
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, gone=True)
        answer = await stage.ask(token)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.count(b"Retry-After: 1\r\n") == 1
        line = re.search(rb"\r\nset-cookie: ([^\r]+)", answer)[1]
        expected = b"sr=; Path=/shop; Domain=example.com; Max-Age=0; HttpOnly; SameSite=Strict"
        assert line == expected


async def test_redirect_sends_elsewhere_and_clears_the_token():
    async with Stage() as stage:
        policy = persistence(mode="Redirect", redirect_url="/login")
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        answer = await stage.ask(token, method="POST", body=b"x" * 100_000)
        assert answer.startswith(b"HTTP/1.1 302 Found\r\n")
        assert b"\r\nLocation: /login\r\n" in answer
        assert b"\r\nset-cookie: sr=; Path=/shop; Domain=example.com; Max-Age=0;" in answer
        assert b"X-Pod: b" not in answer


async def test_temporary_lodges_elsewhere_and_comes_home():
    async with Stage() as stage:
        policy = persistence(mode="Temporary")
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        for _ in range(3):
            answer = await stage.ask(token)
            assert b"X-Pod: b" in answer
            assert b"et-cookie" not in answer.lower()
        assert b"x-session-lost: PodNotReady" in bytes(stage.pods[1].received[-1]).replace(b"X-S", b"x-s")
        stage.apply(policy)
        assert b"X-Pod: a" in await stage.ask(token)


async def test_a_held_request_goes_on_when_its_pod_is_back_and_not_before():
    async with Stage() as stage:
        policy = persistence(mode="Reject", hold=20)
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        size = 3_000_000
        asking = [asyncio.create_task(stage.ask(token, "POST", b"x" * size)) for _ in range(3)]
        counters = stage.proxy.plane.counters
        await eventually(lambda: counters.queued == 3)
        await asyncio.sleep(0.1)
        assert max(len(one._buffer) for one in stage.proxy.plane.active) < 1_000_000
        stage.apply(policy, AWAY)
        assert counters.queued == 3
        stage.apply(policy)
        for answer in await asyncio.gather(*asking):
            assert b"X-Pod: a" in answer
        assert counters.queued == 0


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("Repin", b"X-Pod: b"), ("Temporary", b"X-Pod: b"), ("Reject", b"HTTP/1.1 503 ")],
)
async def test_after_the_hold_the_mode_applies(mode, expected):
    async with Stage() as stage:
        policy = persistence(mode=mode, hold=0.3)
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        begun = asyncio.get_running_loop().time()
        assert expected in await stage.ask(token)
        assert asyncio.get_running_loop().time() - begun >= 0.29


async def test_more_than_may_wait_are_not_held():
    async with Stage() as stage:
        policy = persistence(hold=20)
        limits = snapshot.Limits(queue=1)
        stage.apply(policy, limits=limits)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY, limits=limits)
        first = asyncio.create_task(stage.ask(token))
        await eventually(lambda: stage.proxy.plane.counters.queued == 1)
        assert b"X-Pod: b" in await stage.ask(token)
        stage.apply(policy, limits=limits)
        assert b"X-Pod: a" in await first


async def test_a_client_that_leaves_waits_no_more():
    async with Stage() as stage:
        policy = persistence(hold=20)
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        raw = await stage.proxy.connect()
        await raw.send(get("/shop", f"Cookie: {COOKIE}={token}"))
        await eventually(lambda: stage.proxy.plane.counters.queued == 1)
        raw.reset()
        await eventually(lambda: stage.proxy.plane.counters.queued == 0)
        stage.apply(policy)


async def test_a_pod_that_refuses_connections_is_held_too_and_asked_once_more():
    async with Stage() as stage:
        policy = persistence(mode="Reject", hold=1)
        stage.apply(policy)
        token = await stage.token_on_a()
        port = stage.pods[0].port
        await stage.pods[0].stop()
        asking = asyncio.create_task(stage.ask(token))
        await eventually(lambda: stage.proxy.plane.counters.queued == 1)
        stage.pods[0] = await Backend(named(b"a")).start(port)
        assert b"X-Pod: a" in await asking


async def test_a_held_request_that_is_woken_in_vain_still_comes_to_its_mode():
    """Each snapshot that seems to bring the pod back brings another try, which fails."""
    async with Stage() as stage:
        policy = persistence(mode="Temporary", hold=0.6)
        stage.apply(policy)
        token = await stage.token_on_a()
        await stage.pods[0].stop()
        asking = asyncio.create_task(stage.ask(token))
        for _ in range(4):
            await eventually(lambda: stage.proxy.plane.counters.queued == 1)
            stage.apply(policy, AWAY)
            failures = stage.proxy.plane.counters.connect_failures
            stage.apply(policy)
            await eventually(lambda before=failures: stage.proxy.plane.counters.connect_failures > before)
        assert b"X-Pod: b" in await asking
        stage.pods[0] = await Backend(named(b"a")).start()


async def test_who_waits_for_a_pod_of_a_scope_that_is_no_more_decides_anew():
    async with Stage() as stage:
        policy = persistence(mode="Reject", hold=20)
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        asking = asyncio.create_task(stage.ask(token))
        await eventually(lambda: stage.proxy.plane.counters.queued == 1)
        given = stage.proxy.plane.table.snapshot
        stage.proxy.apply(given.model_copy(update={"routes": {}, "revision": stage.revision + 1}))
        await eventually(lambda: stage.proxy.plane.counters.queued == 0)
        assert (await asking).startswith(b"HTTP/1.1 404 ")


async def test_who_was_let_in_and_waits_is_not_turned_away_as_if_new():
    async with Stage() as stage:
        policy = persistence(mode="Reject", hold=20)
        stage.apply(policy)
        token = await stage.token_on_a()
        stage.apply(policy, AWAY)
        asking = asyncio.create_task(stage.ask(token))
        plane = stage.proxy.plane
        await eventually(lambda: plane.counters.queued == 1)
        plane.admission.overloaded = True
        stage.apply(policy)
        assert b"X-Pod: a" in await asking
        assert not plane.counters.shed
