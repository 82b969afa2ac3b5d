"""New versions beside old ones: who moves, and who comes."""

from collections import Counter

import pytest
from tests.unit.proxy.fleets import Client, Proxy, fleet, persistence, pod, pods, route, rule

from stickyroute_api.reasons import BindingReason
from stickyroute_api.snapshot import Balancing, HashOn, HeaderMatch, Limits, Match, Timeouts

WEB, CANARY = pods("web-1", "web-2", "web-3"), pods("canary-1", "canary-2")
POLICY = {"idle_timeout": 1000, "absolute_timeout": 9000}
BEFORE = rule(services=(("web", 3), ("canary", 1)), persistence=persistence(**POLICY))


def changed(**fields):
    return route(BEFORE.model_copy(update=fields))


def services(*given):
    return rule(services=given).backends


BETA = Match(headers=(HeaderMatch(name="X-Beta", value="1"),))
CHANGES = {
    "a further backend": changed(backends=services(("web", 3), ("canary", 1), ("next", 5))),
    "backends in another order": changed(backends=services(("canary", 1), ("web", 3))),
    "weights": changed(backends=services(("web", 1), ("canary", 99))),
    "weight 0 for one": changed(backends=services(("web", 1), ("canary", 0))),
    "weight 0 for the other": changed(backends=services(("web", 0), ("canary", 1))),
    "weight 0 for both": changed(backends=services(("web", 0), ("canary", 0))),
    "a longer idle timer": changed(persistence=persistence(**POLICY | {"idle_timeout": 5000})),
    "a shorter idle timer": changed(persistence=persistence(**POLICY | {"idle_timeout": 100})),
    "no timers": changed(persistence=persistence()),
    "another drain timeout": changed(persistence=persistence(**POLICY, drain_timeout=60)),
    "a further rule behind it": route(BEFORE, rule("second", matches=(Match(path="/b"),))),
    "a further rule before it": route(
        rule("beta", matches=(BETA,), services=(("next", 1),), persistence=persistence(**POLICY)), BEFORE
    ),
    "another algorithm": changed(balancing=Balancing(algorithm="LeastSessions", slow_start=30)),
    "placement by hash": changed(balancing=Balancing(algorithm="Hash", hash_on=HashOn(type="SourceIP"))),
    "timeouts and limits": changed(timeouts=Timeouts(request=1), limits=Limits(requests_per_endpoint=9)),
    "other hosts": route(BEFORE, hosts=("shop.example.com", "*.example.org")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("known", [True, False])
def test_no_change_of_a_route_moves_a_session(change, known):
    proxy = Proxy(fleet([route(BEFORE)], web=WEB, canary=CANARY))
    clients = [Client() for _ in range(100)]
    before = [client.ask(proxy).endpoint.pod for client in clients]
    for client in clients if known else ():
        client.ask(proxy)
    given = fleet([CHANGES[change]], 2, web=WEB, canary=CANARY, next=pods("next-1", "next-2"))
    proxy.apply(given)
    after = [client.ask(proxy) for client in clients]
    assert {decision.reason for decision in after} == {BindingReason.BOUND}
    assert [decision.endpoint.pod for decision in after] == before
    # Neither through a proxy that has just started.
    assert [client.ask(Proxy(given)).endpoint.pod for client in clients] == before


def test_bound_sessions_keep_their_version_at_weight_0_until_their_timer():
    proxy = Proxy(fleet([route(BEFORE)], web=WEB, canary=CANARY))
    client = Client()
    while client.ask(proxy).endpoint.service != "canary":
        client = Client()
    proxy.apply(fleet([CHANGES["weight 0 for one"]], 2, web=WEB, canary=CANARY))
    for _ in range(9):
        proxy.tick(990)
        assert client.ask(proxy).endpoint.service == "canary"
    proxy.tick(100)
    ended = client.ask(proxy)
    assert (ended.reason, ended.endpoint.service) == (BindingReason.ABSOLUTE_TIMEOUT, "web")


@pytest.mark.parametrize("weights", [(90, 10), (70, 30), (1, 1), (99, 1), (5, 0)])
@pytest.mark.parametrize("algorithm", ["RoundRobin", "LeastSessions"])
def test_new_sessions_follow_the_weights(weights, algorithm):
    split = tuple(zip(("web", "canary"), weights, strict=True))
    given = rule(services=split, balancing=Balancing(algorithm=algorithm))
    proxies = [Proxy(fleet([route(given)], web=WEB, canary=CANARY), seed=seed) for seed in range(3)]
    seen = Counter(proxies[n % 3].ask().endpoint.service for n in range(10_000))
    for service, weight in split:
        assert abs(seen[service] / 10_000 - weight / sum(weights)) <= 0.02


def test_those_placed_by_hash_follow_them_too():
    hashed = Balancing(algorithm="Hash", hash_on=HashOn(type="SourceIP"))
    given = rule(services=(("web", 70), ("canary", 30)), balancing=hashed)
    proxy = Proxy(fleet([route(given)], web=WEB, canary=CANARY))
    seen = Counter(proxy.ask(address=f"10.1.{n // 256}.{n % 256}").endpoint.service for n in range(10_000))
    assert abs(seen["canary"] / 10_000 - 0.3) <= 0.02


def test_only_the_lost_sessions_of_a_canary_that_is_taken_away_move():
    proxy = Proxy(fleet([route(BEFORE)], web=WEB, canary=CANARY))
    clients = [Client() for _ in range(60)]
    before = [client.ask(proxy).endpoint for client in clients]
    proxy.apply(fleet([changed(backends=services(("web", 1)))], 2, web=WEB, canary=CANARY))
    for client, home in zip(clients, before, strict=True):
        decision = client.ask(proxy)
        if home.service == "web":
            assert (decision.reason, decision.endpoint.pod) == (BindingReason.BOUND, home.pod)
        else:
            # Its pods are known to no other route: they are as good as gone.
            assert decision.reason in (BindingReason.POLICY_CHANGED, BindingReason.POD_TERMINATED)
            assert decision.endpoint.service == "web"
    assert pod("canary-1").pod not in {one.pod for one in proxy.scope().endpoints}
