"""A limit over a fleet: real proxies of several workers, lent their shares by the operator's own parts."""

import asyncio
import contextlib
from random import Random

import pytest
from tests.component.control.processes import browser, pod, serving, start
from tests.waiting import until

from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Rebalance, SessionLimits
from stickyroute_operator.lend import Lender
from stickyroute_operator.publish import Publisher
from stickyroute_operator.report import Collector

SCOPE = "shop/route-0/web"
HOST = {"Host": "host-0.example.com"}


def limited(ports, proxies, **limits):
    return told(serving(ports), proxies, limits=SessionLimits(**limits))


def told(made, proxies, **policy):
    """The snapshot with more of persistence."""
    route = made.routes["shop/route-0"]
    (rule,) = route.rules
    policy = rule.persistence.model_copy(update=policy)
    route = route.model_copy(update={"rules": (rule.model_copy(update={"persistence": policy}),)})
    return made.model_copy(update={"routes": {"shop/route-0": route}, "settings": Settings(proxies=proxies)})


@contextlib.asynccontextmanager
async def operator(authority, wanted, proxies):
    """Publisher, collector and lender, as the operator joins them, at a pace of their own."""
    context = authority.context()
    lender = None

    def changed():
        lender.poke()

    publisher = Publisher(authority.fleet, lambda: context, changed)
    collector = Collector(lambda: context, changed, random=Random(1), busy=0.05, quiet=0.05, hurried=0.05)
    lender = Lender(publisher, collector, pace=0.05)
    lending = asyncio.create_task(lender.run())
    for part in (publisher, collector, lender):
        part.target({name: proxy.address for name, proxy in proxies.items()})
    publisher.publish(wanted)
    try:
        await until(lambda: all(publisher.proxies[name].acked == wanted.version for name in proxies))
        yield collector, publisher
    finally:
        lending.cancel()
        await asyncio.gather(lending, return_exceptions=True)
        for part in (lender, collector, publisher):
            await part.close()


class Crowd:
    """Clients that begin sessions and come back with them."""

    def __init__(self, session, proxies):
        self._session = session
        self._proxies = proxies
        self.cookies = []
        self.refused = 0

    async def begin(self, number):
        url = f"http://127.0.0.1:{self._proxies[number % len(self._proxies)].http}/"
        async with self._session.get(url, headers=HOST | {"Connection": "close"}) as answer:
            if answer.status == 503:
                self.refused += 1
                return
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        self.cookies.append(cookie)
        async with self._session.get(url, headers=HOST | {"Cookie": cookie, "Connection": "close"}) as answer:
            assert answer.status == 200

    async def come_back(self, number):
        """Which pod serves the session."""
        url = f"http://127.0.0.1:{self._proxies[number % len(self._proxies)].http}/"
        async with self._session.get(url, headers=HOST | {"Cookie": self.cookies[number]}) as answer:
            assert answer.status == 200
            if "Set-Cookie" in answer.headers:
                self.cookies[number] = answer.headers["Set-Cookie"].partition(";")[0]
            return await answer.text()

    async def rush(self, count):
        await asyncio.gather(*(self.begin(number) for number in range(count)))


@pytest.mark.parametrize("workers", [1, 2])
async def test_two_proxies_fill_a_pod_to_its_limit_and_not_beyond(authority, files, workers):
    limit = 12
    async with (
        pod("a") as a,
        start(f"--tls-dir={files}", f"--workers={workers}", "--name=proxy-0") as one,
        start(f"--tls-dir={files}", f"--workers={workers}", "--name=proxy-1") as other,
        operator(authority, limited([a], 2, sessions=limit), {"proxy-0": one, "proxy-1": other}) as (
            collector,
            _,
        ),
        browser() as session,
    ):
        crowd = Crowd(session, [one, other])
        for _ in range(60):
            await crowd.rush(10)
            assert len(crowd.cookies) <= limit
            if len(crowd.cookies) == limit:
                break
            await asyncio.sleep(0.1)
        assert len(crowd.cookies) == limit
        await crowd.rush(20)
        assert len(crowd.cookies) == limit
        assert crowd.refused >= 20
        await until(lambda: SCOPE in collector.view() and collector.view()[SCOPE].active == limit)


async def test_the_busy_proxy_gets_what_the_other_does_not_use(authority, files):
    limit = 9
    async with (
        pod("a") as a,
        start(f"--tls-dir={files}", "--name=proxy-0") as one,
        start(f"--tls-dir={files}", "--name=proxy-1") as other,
        operator(authority, limited([a], 2, sessions=limit), {"proxy-0": one, "proxy-1": other}),
        browser() as session,
    ):
        crowd = Crowd(session, [one])
        for _ in range(100):
            await crowd.rush(5)
            if len(crowd.cookies) == limit:
                break
            await asyncio.sleep(0.1)
        assert len(crowd.cookies) == limit


async def test_requests_in_flight_through_one_proxy_keep_new_sessions_of_another_away(authority, files):
    limit, hold = 4, asyncio.Event()
    async with (
        pod("a", hold) as a,
        start(f"--tls-dir={files}", "--name=proxy-0") as one,
        start(f"--tls-dir={files}", "--name=proxy-1") as other,
        operator(authority, limited([a], 2, requests=limit), {"proxy-0": one, "proxy-1": other}),
        browser() as session,
    ):

        async def begin(proxy, path):
            url = f"http://127.0.0.1:{proxy.http}{path}"
            async with session.get(url, headers=HOST | {"Connection": "close"}) as answer:
                return answer.status

        async def comes_to(status):
            async with asyncio.timeout(20):
                while await begin(other, "/") != status:
                    await asyncio.sleep(0.05)

        held = set()
        async with asyncio.timeout(20):
            while len(held) < limit:
                asked = asyncio.create_task(begin(one, "/slow"))
                await asyncio.wait({asked}, timeout=0.3)
                if asked.done():
                    assert asked.result() == 503, "its share grows by what it has in flight"
                else:
                    held.add(asked)
        await comes_to(503)
        assert {await begin(proxy, "/") for proxy in (one, other) * 5} == {503}
        hold.set()
        assert {await asked for asked in held} == {200}
        await comes_to(200)


async def test_leases_outlive_the_operator(authority, files):
    async with (
        pod("a") as a,
        start(f"--tls-dir={files}", "--name=proxy-0") as one,
        browser() as session,
    ):
        crowd = Crowd(session, [one])
        async with operator(authority, limited([a], 1, sessions=4), {"proxy-0": one}):
            await crowd.rush(2)
        await crowd.rush(10)
        assert len(crowd.cookies) == 4
        async with operator(
            authority, limited([a], 1, sessions=4).model_copy(update={"epoch": 2}), {"proxy-0": one}
        ):
            await asyncio.sleep(0.5)
            await crowd.rush(10)
        assert len(crowd.cookies) == 4


async def test_idle_sessions_move_to_a_new_pod_within_the_minutes_budget(authority, files):
    policy = {"idle_timeout": 10.0, "rebalance": Rebalance(sessions_per_minute=3, idle_for=0.2)}
    async with (
        pod("a") as a,
        pod("b") as b,
        start(f"--tls-dir={files}", "--name=proxy-0") as one,
        start(f"--tls-dir={files}", "--name=proxy-1") as other,
        operator(authority, told(serving([a]), 2, **policy), {"proxy-0": one, "proxy-1": other}) as (
            collector,
            publisher,
        ),
        browser() as session,
    ):
        crowd = Crowd(session, [one, other])
        await crowd.rush(12)
        publisher.publish(told(serving([a, b], 2), 2, **policy))
        await until(lambda: SCOPE in collector.view() and collector.view()[SCOPE].active == 12)
        await asyncio.sleep(1.5)
        pods = [await crowd.come_back(number) for number in range(12)]
        assert 1 <= pods.count("b") <= 3
        assert [await crowd.come_back(number) for number in range(12)] == pods
