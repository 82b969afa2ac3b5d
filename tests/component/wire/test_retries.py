"""A connection that did not come to be: how often it is tried again, where, and what is told at last."""

import re
import socket
from errno import EADDRNOTAVAIL

import pytest
from tests.component.wire.harness import echo, endpoint, fleet, get, serving

from stickyroute_api.settings import RetryBudget, Settings
from stickyroute_api.snapshot import HealthCheck, PassiveCheck, Retries
from stickyroute_proxy.wire import connect


def unused_ports(count):
    """Ports where nothing listens; all held at once, so that no two are the same."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def dead(count):
    return [endpoint(port, f"uid-dead-{number}") for number, port in enumerate(unused_ports(count))]


async def bound(proxy):
    """The Cookie field of a session on the only pod."""
    raw = await proxy.connect()
    await raw.send(get("/"))
    token = re.search(rb"set-cookie: (sr=[^;]+)", (await raw.answer())[0])[1].decode()
    await raw.close()
    return "Cookie: " + token


def post(*fields):
    return get("/", *fields, "Content-Length: 1", method="POST") + b"a"


@pytest.mark.parametrize("attempts", range(6))
@pytest.mark.parametrize("pods", [1, 3, 6])
async def test_a_new_session_tries_as_many_other_pods(attempts, pods):
    async with serving(echo()) as (proxy, _):
        proxy.apply(fleet(*dead(pods), revision=2, retries=Retries(attempts=attempts)))
        answer = await proxy.ask(get("/"))
        counters = proxy.plane.counters
        # 503: no other pod is left to try; 502: no other attempt
        assert answer.startswith(b"HTTP/1.1 502 " if attempts < pods else b"HTTP/1.1 503 ")
        assert counters.connect_failures == min(pods, attempts + 1)
        assert counters.retries == min(pods, attempts)


@pytest.mark.parametrize("attempts", range(6))
async def test_a_bound_session_tries_its_own_pod_once_more_then_others(attempts):
    async with serving(echo()) as (proxy, backend):
        cookie = await bound(proxy)
        gone, *others = unused_ports(4)
        # The session's pod lives on under another port, where nothing listens.
        pods = [endpoint(gone, "uid-a"), *(endpoint(port, f"uid-{port}") for port in others)]
        proxy.apply(fleet(*pods, revision=2, retries=Retries(attempts=attempts)))
        answer = await proxy.ask(post(cookie))
        counters = proxy.plane.counters
        assert answer.startswith(b"HTTP/1.1 503 " if attempts == 5 else b"HTTP/1.1 502 ")
        assert counters.connect_failures == min(attempts, 4) + 1
        assert counters.retries == attempts
        scope = proxy.plane.table.scopes["shop/shop/web"]
        assert scope.moved == (attempts > 1)
        assert backend.bytes.count(b"POST ") == 0


@pytest.mark.parametrize("pods", [1, 2, 3])
async def test_a_post_reaches_the_first_pod_that_takes_it_exactly_once(pods):
    async with serving(echo()) as (proxy, backend):
        for turn in range(pods + 1):
            given = [*dead(pods), endpoint(backend.port, "uid-alive")]
            proxy.apply(fleet(*given[turn:], *given[:turn], revision=2 + turn))
            head, _, body = (await proxy.ask(post())).partition(b"\r\n\r\n")
            assert (head.startswith(b"HTTP/1.1 200 "), body) == (True, b"a")
            assert backend.bytes.count(b"POST ") == turn + 1


async def test_a_pod_that_takes_no_connection_loses_its_session_to_another():
    async with serving(echo()) as (proxy, backend):
        cookie = await bound(proxy)
        gone = endpoint(*unused_ports(1), "uid-a")
        proxy.apply(fleet(gone, endpoint(backend.port, "uid-b"), revision=2))
        head, _, body = (await proxy.ask(post(cookie))).partition(b"\r\n\r\n")
        assert (head.startswith(b"HTTP/1.1 200 "), body) == (True, b"a")
        assert b"set-cookie: sr=" in head
        request = backend.requests(-1)[0]
        assert dict(request[2])[b"x-session-lost"] == b"ConnectFailed"
        # Once more there, then elsewhere.
        assert proxy.plane.counters.connect_failures == 2
        assert proxy.plane.counters.retries == 2


async def test_that_no_port_of_ours_is_left_says_nothing_of_the_pod(monkeypatch):
    class Crowded(socket.socket):
        def connect(self, address):
            if address[1] == full:
                raise OSError(EADDRNOTAVAIL, "Cannot assign requested address")
            super().connect(address)

    health = HealthCheck(passive=PassiveCheck(consecutive_failures=1))
    async with serving(echo(), echo(), health=health) as (proxy, first, second):
        both = proxy.plane.table.snapshot.endpoints["shop/web:80"]
        one = {"endpoints": {"shop/web:80": both[:1]}, "revision": 2}
        proxy.apply(proxy.plane.table.snapshot.model_copy(update=one))
        cookie = await bound(proxy)
        two = {"endpoints": {"shop/web:80": both}, "revision": 3}
        proxy.apply(proxy.plane.table.snapshot.model_copy(update=two))
        full = first.port
        monkeypatch.setattr(connect, "socket", Crowded)
        for given in proxy.plane.table.endpoints():
            if given.pool is not None:
                given.pool.close()
                given.pool = None
        answer = await proxy.ask(get("/", cookie))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer
        assert proxy.plane.counters.shed == {"Ports": 1}
        for _ in range(4):
            assert (await proxy.ask(get("/"))).startswith(b"HTTP/1.1 200 ")
        assert second.connections
        assert not proxy.plane.table.ejected
        monkeypatch.undo()
        assert b"set-cookie" not in await proxy.ask(get("/", cookie))


async def test_a_rule_that_retries_on_nothing():
    async with serving(echo()) as (proxy, _):
        proxy.apply(fleet(*dead(2), revision=2, retries=Retries(attempts=5, on=())))
        assert (await proxy.ask(get("/"))).startswith(b"HTTP/1.1 502 ")
        assert proxy.plane.counters.connect_failures == 1


@pytest.mark.parametrize("attempts", [1, 5])
async def test_the_budget_bounds_what_the_rule_allows(attempts):
    budget = Settings(retry_budget=RetryBudget(percent=0, per_second=0))
    async with serving(echo()) as (proxy, _):
        retries = Retries(attempts=attempts)
        proxy.apply(fleet(*dead(3), revision=2, settings=budget, retries=retries))
        assert (await proxy.ask(get("/"))).startswith(b"HTTP/1.1 502 ")
        counters = proxy.plane.counters
        assert (counters.connect_failures, counters.retries, counters.retries_denied) == (1, 0, 1)
