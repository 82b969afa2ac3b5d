"""Persistence by a value alone: query parameter and source address."""

import pytest
from tests.unit.proxy.fleets import Proxy, Request, fleet, pod, pods, route, rule

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Failover, Persistence, TokenKeys
from stickyroute_proxy.affinity import recent
from stickyroute_proxy.affinity.choose import choose
from stickyroute_proxy.affinity.decision import Decision
from stickyroute_proxy.affinity.retry import rechoose, sidestep

QUERY = Persistence(type="QueryParam", name="room", failover=Failover(mode="Reject"))
SOURCE = Persistence(type="SourceIP")
MANY = [f"web-{n}" for n in range(100)]


def routed(policy=QUERY, services=(("web", 1),)):
    return [route(rule(persistence=policy, services=services))]


def ask(proxy, value):
    return proxy.ask(query=b"a=1&room=" + value)


def homes(proxy, values):
    return [ask(proxy, value).endpoint.pod for value in values]


VALUES = [b"room-%d" % n for n in range(1000)]


def test_a_value_is_always_the_same_pod_s_through_every_proxy():
    given = fleet(routed(), web=pods("web-1", "web-2", "web-3"))
    one, other = Proxy(given, seed=1), Proxy(given, seed=2)
    first = homes(one, VALUES)
    assert homes(one, VALUES) == homes(other, VALUES) == first
    assert set(first) == {"web-1", "web-2", "web-3"}
    decision = ask(one, b"room-1")
    assert (decision.reason, decision.set_token, decision.notice) == (BindingReason.HASHED, None, None)
    assert one.scope().decisions()[BindingReason.HASHED] == 2 * len(VALUES) + 1
    assert one.table.known.count == 0


def test_addresses_are_values_and_those_of_one_network_are_one():
    proxy = Proxy(fleet(routed(SOURCE), web=pods(*MANY)))
    seen = {proxy.ask(address=f"192.0.2.{n}").endpoint.pod for n in range(100)}
    assert len(seen) > 40
    assert len({proxy.ask(address=f"2001:db8:1:2::{n:x}").endpoint.pod for n in range(100)}) == 1
    assert proxy.ask(address="192.0.2.1").reason is BindingReason.HASHED


def test_without_the_value_a_request_is_balanced_and_unpinned():
    proxy = Proxy(fleet(routed(), web=pods("web-1", "web-2")))
    plain = [proxy.ask(query=query) for query in (b"", b"room=", b"a=1", b"roo=m") for _ in range(2)]
    assert {one.reason for one in plain} == {BindingReason.UNPINNED}
    assert [one.endpoint.pod for one in plain].count("web-1") == 4


def test_weights_share_out_values():
    services = (("web", 9), ("canary", 1))
    proxy = Proxy(fleet(routed(services=services), web=pods("web-1"), canary=pods("canary-1")))
    share = homes(proxy, [b"%d" % n for n in range(10_000)]).count("canary-1") / 10_000
    assert 0.08 <= share <= 0.12


@pytest.mark.parametrize("later", [MANY[1:], [*MANY, "web-100"]])
def test_one_pod_of_a_hundred_moves_its_values_and_they_are_told(later):
    proxy = Proxy(fleet(routed(), web=pods(*MANY)))
    values = [b"%d" % n for n in range(20_000)]
    before = homes(proxy, values)
    proxy.apply(fleet(routed(), 2, web=pods(*later)))
    after = [ask(proxy, value) for value in values]
    moved = [now for old, now in zip(before, after, strict=True) if old != now.endpoint.pod]
    assert 0 < len(moved) / len(values) <= 0.015
    assert {now.reason for now in moved} == {BindingReason.ENDPOINTS_CHANGED}
    assert {now.notice for now in moved} == {b"EndpointsChanged"}
    told = [now for now in after if now.reason is BindingReason.ENDPOINTS_CHANGED]
    assert len(told) == len(moved) == proxy.scope().moved
    assert proxy.scope().ended == {BindingReason.ENDPOINTS_CHANGED: len(told)}
    assert {ask(proxy, value).reason for value in values} == {BindingReason.HASHED}


def test_what_was_seen_before_several_changes_is_told():
    proxy = Proxy(fleet(routed(), web=pods("web-1", "web-2")))
    before = homes(proxy, VALUES)
    for revision, names in enumerate((["web-2", "web-3"], ["web-3", "web-4"], ["web-4", "web-2"]), 2):
        proxy.apply(fleet(routed(), revision, web=pods(*names)))
    after = [ask(proxy, value) for value in VALUES]
    for old, now in zip(before, after, strict=True):
        expected = BindingReason.HASHED if old == now.endpoint.pod else BindingReason.ENDPOINTS_CHANGED
        assert now.reason is expected


def test_the_key_places_values_and_no_proxy_without_it_can_foresee_them():
    web = pods(*MANY)
    keys = [TokenKeys(sealing=1, keys={1: "a" * 43 + "="}, hashing=letter * 43 + "=") for letter in "AE"]
    one, other = (Proxy(fleet(routed(), web=web, keys=key)) for key in keys)
    same = sum(a == b for a, b in zip(homes(one, VALUES), homes(other, VALUES), strict=True))
    assert same < 50


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(recent, "GENERATION", 100)
    proxy = Proxy(fleet(routed(), web=pods("web-1", "web-2")))
    known = proxy.table.known
    for n in range(10_000):
        ask(proxy, b"%d" % n)
    kept = (known.placed, known.homes)
    assert sum(len(part) for one in kept for part in (one._young, one._old)) < 400
    proxy.apply(fleet(routed(), 2, web=pods("web-3")))
    assert ask(proxy, b"9999").reason is BindingReason.ENDPOINTS_CHANGED
    assert ask(proxy, b"1").reason is BindingReason.HASHED


def test_what_is_asked_for_is_remembered_longest(monkeypatch):
    monkeypatch.setattr(recent, "GENERATION", 100)
    kept = recent.Recent()
    kept.put(1, "one")
    for n in range(2, 5000):
        kept.put(n, "another")
        assert kept.get(1) == "one"
    assert kept.get(2) is None


def test_a_pod_that_refuses_a_connection_loses_that_request_alone():
    proxy = Proxy(fleet(routed(), web=pods("web-1", "web-2", "web-3")))
    first = ask(proxy, b"x")
    facts = Request(query=b"room=x")
    again = rechoose(proxy.rule(), facts, first, proxy.now, proxy.random, tried={first.endpoint})
    assert (again.reason, again.notice) == (BindingReason.CONNECT_FAILED, b"ConnectFailed")
    assert again.endpoint is not first.endpoint
    assert sidestep(proxy.rule(), facts, first, 0, proxy.random, tried=()) is first
    assert ask(proxy, b"x").endpoint is first.endpoint


def test_a_value_goes_elsewhere_while_its_pod_is_away_and_comes_back():
    proxy = Proxy(fleet(routed(), web=pods("web-1", "web-2", "web-3")))
    home = ask(proxy, b"x").endpoint.pod
    away = tuple(
        pod(name, EndpointState.NOT_READY if name == home else EndpointState.SERVING)
        for name in ("web-1", "web-2", "web-3")
    )
    proxy.apply(fleet(routed(), 2, web=away))
    assert ask(proxy, b"x").reason is BindingReason.ENDPOINTS_CHANGED
    proxy.apply(fleet(routed(), 3, web=pods("web-1", "web-2", "web-3")))
    assert ask(proxy, b"x").endpoint.pod == home


def test_none_at_all():
    proxy = Proxy(fleet(routed(), web=()))
    assert choose(proxy.rule(), Request(query=b"room=1"), proxy.now, proxy.random).endpoint is None


def test_a_value_that_has_moved_is_told_also_where_its_new_pod_takes_no_connection():
    proxy = Proxy(fleet([route(rule(persistence=QUERY))], web=pods("web-1", "web-2")))
    (first, second) = proxy.find("web-1", "web-2")
    failed = Decision(first, BindingReason.ENDPOINTS_CHANGED, notice=b"EndpointsChanged")
    again = rechoose(proxy.rule(), Request(query=b"room=1"), failed, proxy.now, proxy.random, tried=[])
    assert (again.endpoint, again.reason, again.notice) == (second, failed.reason, failed.notice)
