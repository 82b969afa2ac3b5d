"""What is ordered for pods, what health checks find, and drains: who takes new sessions and who keeps old."""

import pytest
from tests.unit.proxy.fleets import NOW, Proxy, fleet, persistence, pod, pods, route, rule, session_on

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Override

WEB = pods("web-1", "web-2")


def ordered(*overrides, **policy):
    return [route(rule(persistence=persistence(**policy)), overrides=overrides)]


def placed(proxy, count=10):
    return {decision.endpoint and decision.endpoint.pod for decision in (proxy.ask() for _ in range(count))}


def test_drain_takes_no_new_sessions_and_keeps_those_it_has():
    proxy = Proxy(fleet(ordered(), web=WEB))
    client = session_on("web-1", proxy)
    proxy.apply(fleet(ordered(Override(pod="web-1", action="Drain")), 2, web=WEB))
    assert placed(proxy) == {"web-2"}
    assert client.ask(proxy).endpoint.pod == "web-1"
    proxy.apply(fleet(ordered(), 3, web=WEB))
    assert placed(proxy) == {"web-1", "web-2"}


def test_disable_takes_and_keeps_none_even_where_there_is_no_other():
    order = Override(pod="web-1", action="Disable")
    proxy = Proxy(fleet(ordered(), web=WEB))
    client = session_on("web-1", proxy)
    proxy.apply(fleet(ordered(order), 2, web=WEB))
    assert placed(proxy) == {"web-2"}
    moved = client.ask(proxy)
    assert (moved.reason, moved.endpoint.pod) == (BindingReason.POD_DISABLED, "web-2")
    (departed,) = proxy.scope().sessions.departures
    assert (departed.pod, departed.reason, departed.moved) == ("web-1", BindingReason.POD_DISABLED, 1)
    proxy.apply(fleet(ordered(order), 3, web=(pod("web-1"),)))
    assert placed(proxy) == {None}


def test_release_ends_what_was_bound_before_and_nothing_later():
    proxy = Proxy(fleet(ordered(idle_timeout=1000), web=WEB))
    early = [session_on("web-1", proxy) for _ in range(3)]
    other = session_on("web-2", proxy)
    proxy.tick(10)
    late = session_on("web-1", proxy)
    orders = Override(pod="web-1", action="Release", since=NOW + 5)
    proxy.apply(fleet(ordered(orders, idle_timeout=1000), 2, web=WEB))
    for client in early:
        moved = client.ask(proxy)
        assert (moved.reason, moved.notice) == (BindingReason.RELEASED, b"Released")
        assert moved.endpoint.pod == "web-2"
    for client in (late, other, *early):
        assert client.ask(proxy).reason is BindingReason.BOUND
    assert "web-1" in placed(proxy)
    proxy.apply(fleet(ordered(orders, idle_timeout=1000), 3, web=WEB[:1]))
    alone = session_on("web-1", proxy)
    assert alone.ask(proxy).reason is BindingReason.BOUND


def test_a_released_session_stays_where_there_is_no_other_and_is_told():
    proxy = Proxy(fleet(ordered(), web=WEB[:1]))
    client = session_on("web-1", proxy)
    proxy.tick(10)
    proxy.apply(fleet(ordered(Override(pod="web-1", action="Release", since=NOW + 5)), 2, web=WEB[:1]))
    assert [client.ask(proxy).reason for _ in range(3)] == [
        BindingReason.RELEASED,
        BindingReason.BOUND,
        BindingReason.BOUND,
    ]


def test_orders_are_one_route_s_alone():
    other = route(rule(scope="other"), name="other", hosts=("other.example.com",))
    routes = [*ordered(Override(pod="web-1", action="Disable")), other]
    proxy = Proxy(fleet(routes, web=WEB[:1]))
    assert placed(proxy) == {None}
    assert proxy.rule(host=b"other.example.com").balancer.pool


# Health

SERVING, JOINING = EndpointState.SERVING, EndpointState.JOINING
DRAINING, AWAY = EndpointState.DRAINING, EndpointState.NOT_READY
BEST_FIRST = [
    {"state": SERVING},
    {"state": JOINING},
    {"state": SERVING, "ejected": True},
    {"state": DRAINING},
    {"state": SERVING, "unhealthy": True},
    {"state": DRAINING, "serving": False},
]
"""Pods, each of which takes new sessions only where none before it is there; the last one never does."""


@pytest.mark.parametrize("first", range(len(BEST_FIRST)))
def test_who_takes_new_sessions(first):
    shapes = {f"web-{at}": dict(shape) for at, shape in enumerate(BEST_FIRST) if at >= first}
    health = {
        name: {
            "unhealthy": shape.pop("unhealthy", False),
            "ejected_until": NOW + 60 if shape.pop("ejected", False) else 0.0,
        }
        for name, shape in shapes.items()
    }
    proxy = Proxy(fleet(web=tuple(pod(name, **shape) for name, shape in shapes.items())))
    for name, found in health.items():
        proxy.touch(name, **found)
    assert placed(proxy) == {f"web-{first}" if first < len(BEST_FIRST) - 1 else None}


def test_an_ejected_pod_keeps_its_sessions_and_takes_new_ones_when_its_time_is_over():
    proxy = Proxy(fleet(web=WEB))
    client = session_on("web-1", proxy)
    proxy.touch("web-1", ejected_until=proxy.now + 30)
    assert placed(proxy) == {"web-2"}
    assert client.ask(proxy).endpoint.pod == "web-1"
    proxy.tick(29)
    assert placed(proxy) == {"web-2"}
    proxy.tick(2)
    assert placed(proxy) == {"web-1", "web-2"}
    assert not proxy.table.ejected


def test_an_unhealthy_pod_loses_its_sessions_and_has_new_ones_when_it_is_well():
    proxy = Proxy(fleet(web=WEB))
    client, quiet = session_on("web-1", proxy), session_on("web-1", proxy)
    proxy.touch("web-1", unhealthy=True)
    assert placed(proxy) == {"web-2"}
    assert client.ask(proxy).reason is BindingReason.POD_UNHEALTHY
    proxy.touch("web-1", unhealthy=False)
    assert placed(proxy) == {"web-1", "web-2"}
    assert quiet.ask(proxy).reason is BindingReason.BOUND
    assert client.ask(proxy).endpoint.pod == "web-2"


def test_those_who_wait_for_room_on_a_pod_that_is_found_unhealthy_decide_anew():
    proxy = Proxy(fleet(web=WEB))
    (one,) = proxy.find("web-1")
    one.queue = ["those who wait"]
    proxy.touch("web-1", ejected_until=proxy.now + 1)
    assert proxy.table.returned() == []
    proxy.touch("web-1", unhealthy=True)
    assert proxy.table.returned() == [["those who wait"]]
    assert proxy.table.returned() == []


def test_what_a_health_check_found_outlives_a_snapshot_and_goes_with_the_pod():
    proxy = Proxy(fleet(web=WEB))
    proxy.touch("web-1", ejected_until=proxy.now + 30)
    proxy.apply(fleet(revision=2, web=(pod("web-1", zone="a"), WEB[1])))
    assert placed(proxy) == {"web-2"}
    proxy.apply(fleet(revision=3, web=WEB[1:]))
    assert not proxy.table.ejected


# Drains

START = [pod("web-1", DRAINING, draining_since=NOW), pod("web-2")]


def draining(drain, revision):
    return fleet(ordered(drain_timeout=drain), revision, web=tuple(START))


def test_a_drain_is_extended_and_shortened_by_policy():
    proxy = Proxy(fleet(ordered(drain_timeout=60), web=WEB))
    client = session_on("web-1", proxy)
    proxy.apply(draining(60, 2))
    proxy.tick(59)
    assert client.ask(proxy).endpoint.pod == "web-1"
    proxy.apply(draining(120, 3))
    proxy.tick(30)
    assert client.ask(proxy).endpoint.pod == "web-1"
    proxy.apply(draining(80, 4))
    assert proxy.scope().sessions.departures[0].dropped == 1
    moved = client.ask(proxy)
    assert (moved.reason, moved.endpoint.pod) == (BindingReason.POD_TERMINATED, "web-2")


def test_a_drain_that_is_over_is_noticed_without_a_request():
    proxy = Proxy(fleet(ordered(drain_timeout=60), web=WEB))
    for _ in range(4):
        session_on("web-1", proxy)
    proxy.apply(draining(60, 2))
    proxy.tick(59)
    assert not proxy.scope().sessions.departures
    proxy.tick(1)
    (departed,) = proxy.scope().sessions.departures
    assert (departed.dropped, departed.moved) == (4, 0)
    assert departed.reason is BindingReason.POD_TERMINATED


def test_each_scope_drains_for_its_own_time():
    def snapshot(state, revision):
        short = route(rule(persistence=persistence(drain_timeout=10), scope="short"), name="a", hosts=("a",))
        long = route(rule(persistence=persistence(drain_timeout=90), scope="long"), name="b", hosts=("b",))
        return fleet([short, long], revision, web=(pod("web-1", state, draining_since=NOW), pod("web-2")))

    proxy = Proxy(snapshot(SERVING, 1))
    proxy.apply(snapshot(DRAINING, 2))
    proxy.tick(11)
    (one,) = proxy.find("web-1")
    kept = {
        name: proxy.table.scopes[name].policy.drain_timeout
        for name in proxy.table.scopes
        if one.kept_until(proxy.table.scopes[name].policy.drain_timeout) > proxy.now
    }
    assert kept == {"shop/b/long": 90}
    assert {name: bool(scope.draining) for name, scope in proxy.table.scopes.items()} == {
        "shop/a/short": False,
        "shop/b/long": True,
    }


def test_who_drains_and_fails_its_health_check_keeps_none():
    proxy = Proxy(fleet(ordered(drain_timeout=60), web=WEB))
    client = session_on("web-1", proxy)
    proxy.apply(draining(60, 2))
    proxy.touch("web-1", unhealthy=True)
    assert client.ask(proxy).reason is BindingReason.POD_TERMINATED


@pytest.mark.parametrize("what", ["restart", "epoch"])
def test_a_token_of_another_proxy_is_no_sign_that_the_session_was_told(what):
    """It was sealed anew there, and is not the one by which the session is known here."""
    policy = {"idle_timeout": 1000}
    mine, other = (Proxy(fleet(ordered(**policy), web=WEB[:1])) for _ in range(2))
    client = session_on("web-1", mine)
    shown = client.token
    for proxy in (mine, other):
        proxy.tick(200)
    client.ask(other)
    assert client.token != shown
    if what == "restart":
        after = fleet(ordered(**policy), 2, web=(pod("web-1", started=NOW + 300),))
    else:
        after = fleet(ordered(epoch=1, **policy), 2, web=WEB[:1])
    for proxy in (mine, other):
        proxy.tick(200)
        proxy.apply(after)
    old, told = client.token, client.ask(mine)
    reason = {"restart": BindingReason.CONTAINER_RESTARTED, "epoch": BindingReason.EPOCH_RAISED}[what]
    assert (told.reason, told.notice) == (reason, reason.value.encode())
    scope = mine.scope()
    assert (scope.restarted, scope.moved) == ((1, 0) if what == "restart" else (0, 1))
    # What a browser had sent beside it counts no second time.
    mine.ask(old)
    assert (scope.restarted, scope.moved) == ((1, 0) if what == "restart" else (0, 1))
    assert client.ask(mine).reason is BindingReason.BOUND
