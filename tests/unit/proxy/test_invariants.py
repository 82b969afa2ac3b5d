"""What must hold of every choice, over random fleets, changes of them, and clients."""

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import NOW, Client, Proxy, fleet, persistence, pod, route, rule

from stickyroute_api.reasons import MOVED, BindingReason, EndpointState
from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Balancing, HashOn

SETTINGS = Settings(zones={"proxy-1": "zone-1"})
SERVICES = ("web", "canary")
NAMES = [f"{service}-{number}" for service in SERVICES for number in range(4)]
DRAINED, DRAINING = (EndpointState.DRAINING, 0.0), (EndpointState.DRAINING, NOW)
STATES = [
    (EndpointState.SERVING, 0.0),
    (EndpointState.SERVING, 0.0),
    (EndpointState.JOINING, 0.0),
    (EndpointState.NOT_READY, 0.0),
    DRAINED,
    DRAINING,
]

balancings = st.builds(
    Balancing,
    algorithm=st.sampled_from(["RoundRobin", "LeastRequests", "LeastSessions", "Random", "Hash"]),
    choices=st.sampled_from([0, 2, 3]),
    hash_on=st.just(HashOn(type="SourceIP")),
    slow_start=st.sampled_from([0.0, 30.0]),
    prefer_zone=st.booleans(),
)

worlds = st.fixed_dictionaries(
    {
        "states": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(STATES), max_size=len(NAMES)),
        "weights": st.tuples(st.integers(0, 3), st.integers(0, 3)),
        "balancing": balancings,
        "address": st.integers(1, 3),
    }
)


def snapshot(world, revision):
    """Both services of the rule, with the pods of the world; pods share addresses and so inherit them."""
    services = {
        service: tuple(
            pod(
                name,
                state,
                draining_since=since,
                address=f"10.0.0.{int(name[-1]) % world['address'] + 1}",
                zone=f"zone-{int(name[-1]) % 2}",
            )
            for name, (state, since) in sorted(world["states"].items())
            if name.startswith(service)
        )
        for service in SERVICES
    }
    rules = rule(
        services=tuple(zip(SERVICES, world["weights"], strict=True)),
        balancing=world["balancing"],
        persistence=persistence(idle_timeout=1000, drain_timeout=1000),
    )
    return fleet([route(rules)], revision, settings=SETTINGS, **services)


def keeps(state):
    return state in ((EndpointState.SERVING, 0.0), (EndpointState.JOINING, 0.0), DRAINING)


@given(st.lists(worlds, min_size=2, max_size=5), st.integers(0, 2**16))
def test_stability_minimal_disruption_no_resurrection_and_agreement(history, seed):
    first = snapshot(history[0], 1)
    proxies = [Proxy(first, seed=seed), Proxy(first, seed=seed + 1)]
    clients = [Client() for _ in range(12)]
    homes = {client: client.ask(proxies[0]).endpoint for client in clients}
    for revision, world in enumerate(history[1:], 2):
        for proxy in proxies:
            proxy.apply(snapshot(world, revision))
        # A proxy that starts now knows nobody and must say the same.
        fresh = Proxy(snapshot(world, revision), seed=seed + revision)
        for client in clients:
            if homes[client] is None:
                continue
            shown, home = client.token, homes[client].pod
            decision = client.ask(proxies[0])
            others = [proxy.ask(shown) for proxy in (proxies[1], fresh)]
            expected = (decision.endpoint and decision.endpoint.id, decision.reason)
            assert [(one.endpoint and one.endpoint.id, one.reason) for one in others] == [expected] * 2
            if decision.endpoint is None:
                assert decision.reason is BindingReason.NO_ENDPOINT
                assert not any(keeps(state) for state in world["states"].values())
                continue
            assert decision.endpoint.pod in world["states"]
            if home in world["states"] and keeps(world["states"][home]):
                assert (decision.endpoint.pod, decision.reason) == (home, BindingReason.BOUND)
            if decision.endpoint.pod == home:
                assert (decision.reason, decision.notice) == (BindingReason.BOUND, None)
            else:
                assert decision.reason in MOVED
                assert decision.notice == decision.reason.value.encode()
                assert decision.set_token is not None
            homes[client] = decision.endpoint


@given(worlds, st.integers(0, 2**16))
def test_new_sessions_go_to_the_best_there_is(world, seed):
    proxy = Proxy(snapshot(world, 1), seed=seed)
    weights = dict(zip(SERVICES, world["weights"], strict=True))
    order = [EndpointState.SERVING, EndpointState.JOINING, EndpointState.DRAINING, EndpointState.NOT_READY]

    def rank(name):
        return (weights[name[:-2]] == 0, order.index(world["states"][name][0]))

    for _ in range(8):
        decision = proxy.ask()
        if decision.endpoint is None:
            assert not world["states"]
        else:
            assert rank(decision.endpoint.pod) == min(rank(name) for name in world["states"])
