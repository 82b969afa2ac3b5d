from collections import Counter

import pytest
from tests.unit.proxy.fleets import Client, Proxy, Request, fleet, persistence, pod, pods, route, rule

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Balancing, HashOn
from stickyroute_proxy.affinity.retry import sidestep

ADDRESS = HashOn(type="SourceIP")


def zoned(balancing, *, revision=1, zone="here", services=(("web", 1),), sticky=True, **endpoints):
    settings = Settings(zones={"proxy-1": zone} if zone else {})
    policy = persistence() if sticky else persistence(type="None", cookie=None)
    return fleet(
        [route(rule(services=services, balancing=balancing, persistence=policy))],
        revision,
        settings=settings,
        **endpoints,
    )


def homes(proxy, count=40):
    return {proxy.ask(address=f"10.0.0.{number}").endpoint.pod for number in range(count)}


NEAR, FAR = pod("near", zone="here"), pod("far", zone="there")
PREFERRED = Balancing(prefer_zone=True)


@pytest.mark.parametrize("algorithm", ["RoundRobin", "LeastRequests", "LeastSessions", "Random"])
def test_the_own_zone_takes_new_sessions_first(algorithm):
    proxy = Proxy(zoned(Balancing(algorithm=algorithm, prefer_zone=True), web=(NEAR, FAR)))
    assert homes(proxy) == {"near"}


@pytest.mark.parametrize(
    ("given", "takes"),
    [
        (zoned(Balancing(), web=(NEAR, FAR)), {"near", "far"}),
        (zoned(PREFERRED, zone="", web=(NEAR, FAR)), {"near", "far"}),
        (zoned(PREFERRED, zone="third", web=(NEAR, FAR)), {"near", "far"}),
        (zoned(PREFERRED, web=(pod("near", EndpointState.JOINING, zone="here"), FAR)), {"far"}),
        (
            zoned(PREFERRED, web=(NEAR, FAR), canary=(FAR,), services=(("web", 1), ("canary", 1))),
            {"near", "far"},
        ),
        (
            zoned(Balancing(algorithm="Hash", hash_on=ADDRESS, prefer_zone=True), web=(NEAR, FAR)),
            {"near", "far"},
        ),
    ],
    ids=["not-asked-for", "own-unknown", "nobody-there", "only-joining", "in-each-backend", "hash"],
)
def test_without_a_serving_pod_in_the_zone_all_take(given, takes):
    assert homes(Proxy(given)) == takes


def test_a_zone_that_becomes_known_counts_at_once_and_moves_no_session():
    proxy = Proxy(zoned(PREFERRED, zone="", web=(NEAR, FAR)))
    client = Client()
    while client.ask(proxy).endpoint.pod != "far":
        client.token = None
    proxy.apply(zoned(PREFERRED, revision=2, web=(NEAR, FAR)))
    assert homes(proxy) == {"near"}
    assert client.ask(proxy).reason is BindingReason.BOUND
    proxy.apply(zoned(PREFERRED, revision=3, zone="there", web=(NEAR, FAR)))
    assert homes(proxy) == {"far"}


def slow(algorithm="RoundRobin", **fields):
    return Balancing(algorithm=algorithm, slow_start=30, **fields)


OLD = [f"old-{number}" for number in range(9)]


def share(proxy, *names, count=10_000):
    found = Counter(proxy.ask().endpoint.pod for _ in range(count))
    return [found[name] / count for name in names]


@pytest.mark.parametrize(
    "balancing",
    [slow(), slow("Random"), slow("LeastRequests"), slow("LeastRequests", choices=0), slow("LeastSessions")],
    ids=lambda balancing: f"{balancing.algorithm}-{balancing.choices}",
)
def test_a_new_pod_begins_with_a_tenth_of_its_share_and_grows_into_all_of_it(balancing):
    proxy = Proxy(zoned(balancing, sticky=False, web=pods(*OLD)))
    proxy.apply(zoned(balancing, sticky=False, revision=2, web=pods(*OLD, "new")))
    for seconds, expected in [(0, 0.01), (15, 0.055), (14.9, 0.1), (0.1, 0.1), (100, 0.1)]:
        proxy.tick(seconds)
        new, *old = share(proxy, "new", *OLD)
        assert new == pytest.approx(expected, abs=0.012)
        assert old == pytest.approx([(1 - new) / 9] * 9, abs=0.015)
    (backend,) = proxy.rule().balancer.pool
    assert not backend.fresh


def test_a_pod_that_becomes_ready_again_starts_slowly():
    def ready(revision, state):
        return zoned(slow(), revision=revision, web=(*pods("old"), pod("other", state)))

    proxy = Proxy(ready(1, EndpointState.SERVING))
    proxy.apply(ready(2, EndpointState.NOT_READY))
    proxy.apply(ready(3, EndpointState.JOINING))
    proxy.apply(ready(4, EndpointState.SERVING))
    assert share(proxy, "other") == pytest.approx([0.05], abs=0.01)
    proxy.tick(30)
    assert share(proxy, "other") == pytest.approx([0.5], abs=0.01)


@pytest.mark.parametrize(
    "history",
    [
        (pods("a", "b"),),
        ((), pods("a", "b")),
        (pods("x"), pods("a", "b")),
    ],
    ids=["first-snapshot", "first-pods", "all-new"],
)
def test_nobody_starts_slowly_beside_nobody(history):
    proxy = Proxy(zoned(slow(), web=history[0]))
    for revision, web in enumerate(history[1:], 2):
        proxy.apply(zoned(slow(), revision=revision, web=web))
    assert share(proxy, "a", "b", count=100) == [0.5, 0.5]


def test_a_pod_that_is_left_alone_takes_all():
    proxy = Proxy(zoned(slow(), web=pods("old")))
    proxy.apply(zoned(slow(), revision=2, web=pods("old", "new")))
    proxy.apply(zoned(slow(), revision=3, web=pods("new")))
    assert share(proxy, "new", count=10) == [1]


def test_a_clock_set_back_holds_the_first_share():
    proxy = Proxy(zoned(slow(), web=pods("old")))
    proxy.apply(zoned(slow(), revision=2, web=pods("old", "new")))
    proxy.now -= 3600
    assert share(proxy, "new") == pytest.approx([0.05], abs=0.01)
    proxy.apply(zoned(Balancing(), revision=3, web=pods("old", "new")))
    assert share(proxy, "new") == pytest.approx([0.5], abs=0.01)


def test_hashing_knows_no_slow_start():
    balancing = slow("Hash", hash_on=ADDRESS)
    proxy = Proxy(zoned(balancing, web=pods("old")))
    proxy.apply(zoned(balancing, revision=2, web=pods("old", "new")))
    fresh = Proxy(zoned(balancing, revision=2, web=pods("old", "new")))
    for number in range(100):
        address = f"10.0.0.{number}"
        assert proxy.ask(address=address).endpoint.pod == fresh.ask(address=address).endpoint.pod


def test_a_session_that_steps_aside_from_a_full_pod_stays_in_the_zone_while_there_is_room():
    near = [pod(f"near-{number}", zone="here") for number in range(2)]
    proxy = Proxy(zoned(PREFERRED, web=(*near, FAR)))

    def step(full, busy):
        for endpoint in proxy.table.endpoints():
            endpoint.in_flight = int(endpoint.pod in busy)
        return {
            sidestep(proxy.rule(), Request(), full, 1, proxy.random, tried=()).endpoint.pod for _ in range(20)
        }

    full = proxy.ask()
    other = next(one.pod for one in near if one.pod != full.endpoint.pod)
    assert step(full, {full.endpoint.pod}) == {other}
    assert step(full, {full.endpoint.pod, other}) == {"far"}
    assert step(full, {full.endpoint.pod, other, "far"}) == {full.endpoint.pod}
