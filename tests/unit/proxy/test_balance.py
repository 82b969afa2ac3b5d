from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import Client, Proxy, fleet, pod, pods, route, rule

from stickyroute_api.reasons import EndpointState
from stickyroute_proxy.affinity.balance import Backend, smooth

SERVING, JOINING, DRAINING, NOT_READY = (
    EndpointState.SERVING,
    EndpointState.JOINING,
    EndpointState.DRAINING,
    EndpointState.NOT_READY,
)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 3))
def test_smooth_weighted_round_robin_gives_exact_shares(weights, turns):
    pool = tuple(Backend(f"s{number}", f"s{number}", Random(0)) for number in range(len(weights)))
    for backend, weight in zip(pool, weights, strict=True):
        backend.share = weight
    picked = Counter(smooth(pool).service for _ in range(sum(weights) * turns))
    assert [picked[backend.service] for backend in pool] == [weight * turns for weight in weights]


def test_round_robin_gives_even_shares_of_sessions_among_bound_requests():
    proxy = Proxy(fleet(web=pods("web-1", "web-2", "web-3")))
    random = Random(2)
    clients = []
    for _ in range(90):
        clients.append(Client())
        clients[-1].ask(proxy)
        for _ in range(random.randrange(5)):
            random.choice(clients).ask(proxy)
    homes = Counter(client.ask(proxy).endpoint.pod for client in clients)
    assert set(homes.values()) == {30}


def test_proxies_begin_their_turns_apart():
    given = fleet(web=pods(*(f"web-{number}" for number in range(10))))
    assert len({Proxy(given, seed=seed).ask().endpoint.pod for seed in range(20)}) > 3


def test_weights_share_out_new_sessions_exactly():
    services = (("web", 90), ("canary", 10))
    proxy = Proxy(fleet([route(rule(services=services))], web=pods("web-1", "web-2"), canary=pods("c-1")))
    homes = Counter(proxy.ask().endpoint.pod for _ in range(200))
    assert homes == {"web-1": 90, "web-2": 90, "c-1": 20}


def test_a_new_pod_does_not_disturb_the_turns_of_others():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    for _ in range(10):
        proxy.ask()
    proxy.apply(fleet(web=pods("web-1", "web-2", "web-3"), revision=2))
    assert set(Counter(proxy.ask().endpoint.pod for _ in range(30)).values()) == {10}


@pytest.mark.parametrize(
    ("web", "canary", "takes"),
    [
        ([("a", SERVING), ("b", JOINING), ("c", DRAINING), ("d", NOT_READY)], [], "a"),
        ([("b", JOINING), ("c", DRAINING), ("d", NOT_READY)], [], "b"),
        ([("c", DRAINING), ("d", NOT_READY)], [], "c"),
        ([("d", NOT_READY)], [], "d"),
        ([("b", JOINING)], [("x", SERVING)], "b"),
        ([], [("x", SERVING)], "x"),
        ([], [("x", DRAINING)], "x"),
    ],
)
def test_who_takes_new_sessions(web, canary, takes):
    """`canary` has weight 0."""
    given = fleet(
        [route(rule(services=(("web", 1), ("canary", 0))))],
        web=tuple(pod(name, state) for name, state in web),
        canary=tuple(pod(name, state) for name, state in canary),
    )
    proxy = Proxy(given)
    assert {proxy.ask().endpoint.pod for _ in range(5)} == {takes}


@pytest.mark.parametrize("state", [DRAINING, NOT_READY])
def test_what_does_not_answer_takes_nothing(state):
    assert Proxy(fleet(web=(pod("a", state, serving=False),))).ask().endpoint is None


def test_a_joining_backend_waits_while_another_serves():
    proxy = Proxy(
        fleet(
            [route(rule(services=(("web", 1), ("canary", 1))))],
            web=pods("web-1"),
            canary=pods("c-1", state=JOINING),
        )
    )
    assert {proxy.ask().endpoint.pod for _ in range(6)} == {"web-1"}
