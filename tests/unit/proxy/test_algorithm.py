from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import Client, Proxy, fleet, persistence, pod, pods, route, rule

from stickyroute_api.snapshot import Balancing, HashOn
from stickyroute_proxy.affinity.algorithm import Turn, at_random, fewest, in_turn
from stickyroute_proxy.affinity.endpoint import Endpoint

ADDRESS = HashOn(type="SourceIP")
ALL = [
    Balancing(algorithm="RoundRobin"),
    Balancing(algorithm="Random"),
    Balancing(algorithm="Hash", hash_on=ADDRESS),
    Balancing(algorithm="Hash", hash_on=HashOn(type="Header", name="x-none")),
    *(
        Balancing(algorithm=algorithm, choices=choices)
        for algorithm in ("LeastRequests", "LeastSessions")
        for choices in (0, 1, 2, 3, 16)
    ),
]


def named(balancing):
    return f"{balancing.algorithm}-{balancing.choices}"


def endpoints(count):
    return tuple(Endpoint(pod(f"web-{number}"), "web") for number in range(count))


def balanced(balancing, services=(("web", 1),), *, sticky=False, **endpoints):
    policy = persistence() if sticky else persistence(type="None", cookie=None)
    return fleet([route(rule(services=services, balancing=balancing, persistence=policy))], **endpoints)


def loads(endpoint):
    return endpoint.in_flight


@pytest.mark.parametrize("balancing", ALL, ids=named)
def test_weights_hold_over_new_sessions(balancing):
    services = (("web", 70), ("canary", 20), ("trial", 10))
    proxy = Proxy(
        balanced(
            balancing,
            services,
            web=pods("web-1", "web-2", "web-3"),
            canary=pods("c-1", "c-2"),
            trial=pods("t-1"),
        )
    )
    homes = Counter(
        proxy.ask(address=f"10.0.{number >> 8}.{number & 255}").endpoint.service for number in range(10_000)
    )
    for service, weight in services:
        assert abs(homes[service] / 100 - weight) <= 2


@pytest.mark.parametrize("balancing", ALL, ids=named)
def test_idle_endpoints_share_alike(balancing):
    names = [f"web-{number}" for number in range(5)]
    proxy = Proxy(balanced(balancing, web=pods(*names)))
    homes = Counter(proxy.ask(address=f"10.1.{n >> 8}.{n & 255}").endpoint.pod for n in range(10_000))
    assert [homes[name] / 100 for name in names] == pytest.approx([20] * 5, abs=2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 16), st.integers(0, 2**16))
def test_every_algorithm_returns_one_of_its_endpoints(counts, choices, seed):
    random = Random(seed)
    turn = Turn(endpoints(len(counts)), random)
    for endpoint, count in zip(turn.endpoints, counts, strict=True):
        endpoint.in_flight = count
    for algorithm in (in_turn, at_random, fewest(loads, choices)):
        for _ in range(3):
            assert algorithm(turn, random) in turn.endpoints


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 2**16))
def test_the_full_scan_takes_the_fewest_and_has_those_alike_take_turns(counts, seed):
    random = Random(seed)
    turn = Turn(endpoints(len(counts)), random)
    for endpoint, count in zip(turn.endpoints, counts, strict=True):
        endpoint.in_flight = count
    least = [endpoint for endpoint in turn.endpoints if endpoint.in_flight == min(counts)]
    taken = Counter(fewest(loads, 0)(turn, random) for _ in range(3 * len(least)))
    assert taken == dict.fromkeys(least, 3)


@pytest.mark.parametrize(("choices", "share"), [(1, 0.1), (2, 0.2), (3, 0.3), (0, 1.0), (10, 1.0)])
def test_the_one_idle_endpoint_of_ten_is_taken_whenever_it_is_looked_at(choices, share):
    random = Random(7)
    turn = Turn(endpoints(10), random)
    for endpoint in turn.endpoints[1:]:
        endpoint.in_flight = 5
    algorithm = fewest(loads, choices)
    taken = sum(algorithm(turn, random) is turn.endpoints[0] for _ in range(10_000))
    assert taken / 10_000 == pytest.approx(share, abs=0.02)


def test_least_requests_avoids_the_busy_pod():
    proxy = Proxy(balanced(Balancing(algorithm="LeastRequests"), web=pods("web-1", "web-2", "web-3")))
    busy = next(iter(proxy.table.endpoints()))
    busy.in_flight = 5
    assert busy.pod not in {proxy.ask().endpoint.pod for _ in range(100)}


@pytest.mark.parametrize("choices", [0, 2])
def test_least_sessions_fills_the_pod_that_came_last(choices):
    balancing = Balancing(algorithm="LeastSessions", choices=choices)
    proxy = Proxy(balanced(balancing, sticky=True, web=pods("web-1")))

    def visit():
        client = Client()
        client.ask(proxy)
        return client.ask(proxy).endpoint.pod

    for _ in range(50):
        visit()
    proxy.apply(balanced(balancing, sticky=True, web=pods("web-1", "web-2"), revision=2))
    assert {visit() for _ in range(50)} == {"web-2"}
    homes = Counter(visit() for _ in range(50))
    assert sorted(homes.values()) == [25, 25]


def test_a_changed_algorithm_goes_on_where_the_turns_stand():
    proxy = Proxy(balanced(Balancing(), web=pods("web-1", "web-2", "web-3")))
    first = [proxy.ask().endpoint.pod for _ in range(2)]
    proxy.apply(balanced(Balancing(algorithm="Random"), web=pods("web-1", "web-2", "web-3"), revision=2))
    proxy.apply(balanced(Balancing(), web=pods("web-1", "web-2", "web-3"), revision=3))
    assert proxy.ask().endpoint.pod not in first
