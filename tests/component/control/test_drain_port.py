"""The drain port on a real socket, of a data plane and of a process with workers."""

import asyncio
import contextlib
import re
import time

import aiohttp
import pytest
from aiohttp import web
from tests.component.control.processes import browser, get, is_closed, pod, publishing, serving, start
from tests.component.control.support import client
from tests.unit.operator.test_leases import draining
from tests.waiting import until

from stickyroute_api.leases import Drain, Leases
from stickyroute_api.reasons import EndpointState
from stickyroute_proxy import drainport
from stickyroute_proxy.drainport import DrainPort

POD = "shop/web-0-0"


class Told:
    """What the receiver would hold."""

    def __init__(self, snapshot=None, **drains):
        self.snapshot = snapshot
        self.leases = None
        self.here = {}

    def lend(self, sessions, since=1000.0):
        drain = Drain(sessions=sessions, since=since)
        self.leases = Leases(fleet="f", epoch=1, sequence=1, drains={POD: drain})


@contextlib.asynccontextmanager
async def port(told, now=1010.0, ending=lambda: False):
    async def left():
        return told.here

    runner = web.AppRunner(DrainPort(told, left, ending, lambda: now).application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:

        async def ask(path=POD, wait=""):
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/drain/{path}"
            async with session.get(url, params={"wait": wait} if wait else {}) as answer:
                return answer.status, await answer.json(), answer.headers

        ask.port = runner.addresses[0][1]
        try:
            yield ask
        finally:
            await runner.cleanup()


async def test_what_is_answered():
    told = Told()
    async with port(told) as ask:
        status, content, headers = await ask()
        assert (status, content["drained"], headers["Retry-After"]) == (503, False, "2")
        told.snapshot = draining()
        assert (await ask())[0] == 503
        told.lend(2)
        status, content, headers = await ask()
        assert (status, headers["Retry-After"]) == (503, "2")
        assert content == {
            "drained": False,
            "sessions": 2,
            "requests": 0,
            "tunnels": 0,
            "until": 1300.0,
            "message": "sessions or requests are left",
        }
        told.lend(0)
        status, content, headers = await ask()
        assert (status, content["drained"], content["sessions"]) == (200, True, 0)
        assert "Retry-After" not in headers
        status, content, _ = await ask("shop/web-0-1")
        assert (status, content["drained"]) == (503, False)
        status, content, _ = await ask("shop/nobody")
        assert (status, content["message"]) == (
            404,
            "no route knows the pod shop/nobody: nothing waits for it",
        )
        status, content, _ = await ask(wait="soon")
        assert (status, content["message"]) == (
            400,
            "wait: 'soon' is not a duration such as 90s, 1h30m or 250ms",
        )


async def test_an_answer_is_held_until_the_sessions_are_gone(monkeypatch):
    monkeypatch.setattr(drainport, "LOOK", 0.01)
    told = Told(draining())
    told.lend(1)
    async with port(told) as ask:
        waiting = asyncio.create_task(ask(wait="30s"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        told.lend(0)
        assert (await waiting)[0] == 200
        told.lend(1)
        began = time.monotonic()
        assert (await ask(wait="100ms"))[0] == 503
        assert time.monotonic() - began >= 0.1


async def test_only_so_many_answers_are_held(monkeypatch):
    monkeypatch.setattr(drainport, "LOOK", 0.01)
    monkeypatch.setattr(drainport, "MAX_WAITERS", 2)
    told = Told(draining())
    told.lend(1)
    async with port(told) as ask:
        held = [asyncio.create_task(ask(wait="30s")) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert (await ask(wait="30s"))[0] == 503
        told.lend(0)
        assert [(await one)[0] for one in held] == [200, 200]


async def test_a_proxy_that_ends_holds_no_answer(monkeypatch):
    monkeypatch.setattr(drainport, "LOOK", 0.01)
    told, ending = Told(draining()), []
    told.lend(1)
    async with port(told, ending=lambda: bool(ending)) as ask:
        waiting = asyncio.create_task(ask(wait="30s"))
        await asyncio.sleep(0.05)
        ending.append(1)
        assert (await waiting)[0] == 503


def with_drain(made, revision, **change):
    """The snapshot with its first pod draining since a moment ago, for ten minutes."""
    (first, *others) = made.endpoints["shop/web-0:8080"]
    first = first.model_copy(
        update={"state": EndpointState.DRAINING, "draining_since": time.time() - 5} | change
    )
    route = made.routes["shop/route-0"]
    (rule,) = route.rules
    policy = rule.persistence.model_copy(update={"drain_timeout": 600.0})
    return made.model_copy(
        update={
            "revision": revision,
            "routes": {
                "shop/route-0": route.model_copy(
                    update={"rules": (rule.model_copy(update={"persistence": policy}),)}
                )
            },
            "endpoints": {"shop/web-0:8080": (first, *others)},
        }
    )


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_process_knows_more_than_the_last_lease(authority, files, workers):
    """A session that came after the lease was made is not forgotten, whichever worker knows it."""
    async with (
        pod("a") as a,
        pod("b") as b,
        start(f"--tls-dir={files}", f"--workers={workers}") as proxy,
        client(authority.context()) as operator,
        browser() as session,
    ):
        made = serving([a, b])
        async with publishing(authority, proxy, made) as push:
            status, text, headers = await get(session, proxy.http)
            while text != "a":
                status, text, headers = await get(session, proxy.http)
            assert status == 200
            cookie = {"Cookie": re.match("[^;]+", headers["Set-Cookie"])[0]}

            async def ask():
                url = f"http://127.0.0.1:{proxy.drain}/v1/drain/{POD}"
                async with session.get(url) as answer:
                    return answer.status, (await answer.json())["sessions"]

            async def lend(sequence, sessions):
                drains = {POD: Drain(sessions=sessions, since=since)}
                body = Leases(fleet="stickyroute", epoch=1, sequence=sequence, drains=drains)
                url = proxy.address.url("/v1/leases")
                async with operator.put(url, data=body.model_dump_json()) as answer:
                    assert answer.status == 200

            assert (await ask())[0] == 503, "it serves"
            drained = with_drain(made, 2)
            since = drained.endpoints["shop/web-0:8080"][0].draining_since
            push.publish(drained)
            await until(lambda: push.proxies["proxy-0"].acked == drained.version)
            assert await ask() == (503, None)
            await lend(1, 0)
            assert await ask() == (200, 0)
            assert (await get(session, proxy.http, **cookie))[1] == "a"
            await asyncio.sleep(2 * drainport.LOOK)
            assert await ask() == (503, 1)
            assert not await is_closed(session, proxy)
