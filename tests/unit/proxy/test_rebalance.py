"""Idle sessions of full pods move when they come back: only those, only so many, and only once."""

import pytest
from tests.unit.proxy.fleets import NOW, Proxy, fleet, persistence, pods, route, rule
from tests.unit.proxy.test_orders import session_on

from stickyroute_api.leases import Leases, Moves
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Match, Rebalance
from stickyroute_proxy.affinity.retry import prolong

IDLE, IDLE_FOR = 1800.0, 120.0
LONG = IDLE_FOR + IDLE / 10
WEB = pods("web-1", "web-2")


def policy_of(**fields):
    given = {"idle_timeout": IDLE, "rebalance": Rebalance(sessions_per_minute=60, idle_for=IDLE_FOR)}
    return {"persistence": persistence(**given | fields)}


def policy(**fields):
    return [route(rule(**policy_of(**fields)))]


def crowded(count=20):
    """A proxy and clients whose sessions are all on web-1, for web-2 is new."""
    proxy = Proxy(fleet(policy(), web=WEB[:1]))
    clients = [session_on("web-1", proxy) for _ in range(count)]
    proxy.apply(fleet(policy(), 2, web=WEB))
    return proxy, clients


def allow(proxy, count, sequence=1):
    moves = {"shop/shop/web": {"uid-web-1": Moves(sessions=count)}} if count else {}
    proxy.table.obey(Leases(fleet="stickyroute", epoch=1, sequence=sequence, moves=moves))


def pods_of(proxy, clients):
    return [client.ask(proxy).endpoint.pod for client in clients]


def test_so_many_idle_sessions_move_and_stay_there():
    proxy, clients = crowded()
    allow(proxy, 3)
    proxy.now += LONG
    decisions = [client.ask(proxy) for client in clients]
    moved = [one for one in decisions if one.reason is BindingReason.REBALANCED]
    assert len(moved) == 3
    assert {(one.endpoint.pod, one.notice) for one in moved} == {("web-2", b"Rebalanced")}
    (left, arrived) = proxy.find("web-1", "web-2")
    scope = proxy.scope()
    assert (scope.moved, scope.mover.moved(left), scope.mover.moved(arrived)) == (3, 3, 0)
    assert [one.reason for one in scope.sessions.departures] == [BindingReason.REBALANCED]
    assert pods_of(proxy, clients).count("web-2") == 3
    proxy.now += LONG
    assert pods_of(proxy, clients).count("web-2") == 3, "all that was allowed has moved"
    proxy.now += LONG
    allow(proxy, 5, 2)
    assert pods_of(proxy, clients).count("web-2") == 5


def test_a_session_that_was_used_lately_stays():
    proxy, clients = crowded()
    allow(proxy, 20)
    proxy.now += LONG - 1
    assert set(pods_of(proxy, clients)) == {"web-1"}
    proxy.now += IDLE_FOR
    assert set(pods_of(proxy, clients)) == {"web-1"}


def test_what_another_proxy_has_seen_counts_too():
    proxy, (client, *_) = crowded()
    other = Proxy(fleet(policy(), web=WEB), seed=1)
    allow(proxy, 20)
    other.now = NOW + LONG - 1
    client.ask(other)
    proxy.now += LONG
    assert client.ask(proxy).endpoint.pod == "web-1"


def test_a_session_with_an_open_tunnel_stays():
    proxy, (client, *_) = crowded()
    allow(proxy, 20)
    client.token = prolong(proxy.rule(), client.ask(proxy), proxy.now)
    proxy.now += LONG
    assert client.ask(proxy).endpoint.pod == "web-1"


def test_without_permission_none_moves():
    proxy, clients = crowded()
    proxy.now += LONG
    assert set(pods_of(proxy, clients)) == {"web-1"}
    allow(proxy, 20)
    allow(proxy, 0, 2)
    proxy.now += LONG
    assert set(pods_of(proxy, clients)) == {"web-1"}


def test_none_moves_where_no_other_has_fewer():
    proxy = Proxy(fleet(policy(), web=WEB))
    clients = [session_on(name, proxy) for name in ("web-1", "web-2") for _ in range(5)]
    allow(proxy, 20)
    proxy.now += LONG
    assert pods_of(proxy, clients) == ["web-1"] * 5 + ["web-2"] * 5


def test_a_browsers_parallel_requests_follow_one_move():
    proxy, (client, *_) = crowded()
    allow(proxy, 1)
    proxy.now += LONG
    old = client.token
    decisions = [proxy.ask(old) for _ in range(6)]
    assert {one.endpoint.pod for one in decisions} == {"web-2"}
    assert (proxy.scope().moved, proxy.scope().mover.moved(*proxy.find("web-1"))) == (1, 1)
    proxy.tick(1000)
    assert not proxy.scope().mover._targets


def test_a_session_keeps_its_backend():
    proxy = Proxy(fleet(policy(), web=WEB[:1]))
    clients = [session_on("web-1", proxy) for _ in range(9)]
    given = policy()[0].rules[0]
    both = rule(services=(("web", 1), ("canary", 9)), persistence=given.persistence)
    proxy.apply(fleet([route(both)], 2, web=WEB[:1], canary=pods("canary-1")))
    allow(proxy, 20)
    proxy.now += LONG
    assert set(pods_of(proxy, clients)) == {"web-1"}


def test_it_ends_with_the_policy():
    proxy, clients = crowded()
    allow(proxy, 20)
    proxy.apply(fleet(policy(rebalance=Rebalance()), 3, web=WEB))
    proxy.now += LONG
    assert set(pods_of(proxy, clients)) == {"web-1"}
    assert proxy.scope().mover is None


def moved_with_an_old_token(proxy, clients):
    """A session that is moved to web-2, and the token that it had before."""
    allow(proxy, 1)
    proxy.now += LONG
    old = clients[0].token
    assert clients[0].ask(proxy).reason is BindingReason.REBALANCED
    assert clients[0].ask(proxy).endpoint.pod == "web-2"
    return old


@pytest.mark.parametrize("gone", [{}, {"state": EndpointState.NOT_READY}])
def test_an_old_token_leads_to_no_pod_that_has_gone_since_its_session_was_moved_there(gone):
    """Another's pod may have its address by now. It goes where the session's newest token does."""
    proxy, clients = crowded()
    old = moved_with_an_old_token(proxy, clients)
    web = (*pods("web-1", "web-3"), *(pods("web-2", **gone) if gone else ()))
    proxy.apply(fleet(policy(), 3, web=web))
    home = clients[0].ask(proxy).endpoint
    assert home.pod != "web-2"
    assert proxy.ask(old).endpoint is home


def test_an_old_token_leads_to_the_port_of_its_rule():
    rules = (
        rule("admin", (("admin", 1),), (Match(path_type="PathPrefix", path="/admin"),), **policy_of()),
        rule("app", **policy_of()),
    )
    proxy = Proxy(fleet([route(*rules)], web=WEB[:1], admin=WEB[:1]))
    clients = [session_on("web-1", proxy) for _ in range(20)]
    proxy.apply(fleet([route(*rules)], 2, web=WEB, admin=WEB))
    old = moved_with_an_old_token(proxy, clients)
    found = proxy.ask(old, path=b"/admin/x").endpoint
    assert (found.pod, found.service) == ("web-2", "admin")


def test_a_pod_that_has_left_is_counted_no_more_and_moves_nobody_by_what_it_was_allowed():
    proxy, clients = crowded()
    allow(proxy, 3)
    proxy.now += LONG
    pods_of(proxy, clients)
    (left,) = proxy.find("web-1")
    assert proxy.scope().mover.moved(left) == 3
    proxy.apply(fleet(policy(), 3, web=WEB[1:]))
    assert proxy.scope().mover.moved(left) == 0
    proxy.apply(fleet(policy(), 4, web=WEB))
    proxy.now += LONG
    reasons = {client.ask(proxy).reason for client in clients}
    assert BindingReason.REBALANCED not in reasons
