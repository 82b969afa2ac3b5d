import base64
from random import Random

import pytest
from tests.unit.proxy.fleets import (
    Client,
    Proxy,
    Request,
    fleet,
    persistence,
    pod,
    pods,
    route,
    rule,
    session_on,
)

from stickyroute_api.affinity import ID_BYTES, Clash
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Override
from stickyroute_proxy.affinity import sessions as known_sessions
from stickyroute_proxy.affinity.report import MAX_BYTES, report
from stickyroute_proxy.affinity.retry import rechoose
from stickyroute_proxy.slices import at_once


def returning(proxy, count):
    """So many clients whose tokens have come back once."""
    clients = [Client() for _ in range(count)]
    for client in clients:
        client.ask(proxy)
        client.ask(proxy)
    return clients


def said(proxy):
    return at_once(report(proxy.table, "proxy-1", 5.0, proxy.now))


def test_a_session_counts_once_its_token_has_come_back():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    for _ in range(1000):
        proxy.ask()
    assert proxy.table.known.count == 0
    returning(proxy, 10)
    scope = said(proxy).scopes["shop/shop/web"]
    assert scope.new == 1010
    assert [row.active for row in scope.endpoints] == [5, 5]


def test_garbage_leaves_nothing_behind():
    proxy = Proxy(fleet(web=pods("web-1")))
    random = Random(1)
    token = proxy.ask().token
    for _ in range(2000):
        at = random.randrange(len(token))
        proxy.ask(token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :])
    assert proxy.table.known.count == len(proxy.table.known.tokens) == 0


def test_renewed_tokens_replace_old_ones():
    proxy = Proxy(fleet([route(rule(persistence=persistence(idle_timeout=10)))], web=pods("web-1")))
    (client,) = returning(proxy, 1)
    for _ in range(50):
        proxy.tick(1)
        client.ask(proxy)
    assert proxy.table.known.count == len(proxy.table.known.tokens) == 1


@pytest.mark.parametrize(("idle", "window"), [(60, 60), (None, known_sessions.DEFAULT_WINDOW)])
def test_what_is_idle_is_forgotten_and_not_ended(idle, window):
    proxy = Proxy(fleet([route(rule(persistence=persistence(idle_timeout=idle)))], web=pods("web-1")))
    client, _ = returning(proxy, 2)
    proxy.tick(window - 1)
    client.ask(proxy)
    proxy.tick(1)
    proxy.tick(1)
    (row,) = said(proxy).scopes["shop/shop/web"].endpoints
    assert row.active == proxy.table.known.count == len(proxy.table.known.tokens) == 1
    proxy.tick(window)
    proxy.tick(1)
    assert proxy.table.known.count == 0
    if idle is None:
        assert client.ask(proxy).reason is BindingReason.BOUND


def test_sweeps_take_slices_and_reach_everyone(monkeypatch):
    monkeypatch.setattr(known_sessions, "SWEEP_AT_LEAST", 10)
    proxy = Proxy(fleet([route(rule(persistence=persistence(idle_timeout=5)))], web=pods("web-1", "web-2")))
    returning(proxy, 200)
    proxy.tick(6)
    assert 0 < proxy.table.known.count < 200
    for _ in range(60):
        proxy.tick(1)
    assert proxy.table.known.count == 0


def test_beyond_the_limit_sessions_are_served_and_not_counted(monkeypatch):
    monkeypatch.setattr(known_sessions, "MAX_SESSIONS", 5)
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    clients = returning(proxy, 8)
    assert proxy.table.known.count == 5
    assert {client.ask(proxy).reason for client in clients} == {BindingReason.BOUND}


def test_a_departure_tells_pod_reason_and_number():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    clients = returning(proxy, 10)
    proxy.apply(fleet(web=pods("web-1"), revision=2))
    (departure,) = said(proxy).scopes["shop/shop/web"].departures
    assert (departure.pod, departure.reason) == ("web-2", BindingReason.POD_TERMINATED)
    assert (departure.endpoint, departure.dropped, departure.moved) == ("uid-web-2", 5, 0)
    assert len(base64.b64decode(departure.ids)) == 5 * ID_BYTES
    for client in clients:
        client.ask(proxy)
    scope = said(proxy).scopes["shop/shop/web"]
    assert [(one.dropped, one.moved) for one in scope.departures] == [(5, 5)]
    assert scope.moved == 5
    assert [(row.pod, row.active) for row in scope.endpoints] == [("web-1", 10)]


def test_sessions_known_to_another_proxy_only_join_the_departure_as_they_move():
    given = fleet(web=pods("web-1", "web-2"))
    one, other = Proxy(given, seed=1), Proxy(given, seed=2)
    clients = returning(one, 6)
    other.apply(fleet(web=pods("web-1"), revision=2))
    assert said(other).scopes == {}
    for client in clients:
        client.ask(other)
    (departure,) = said(other).scopes["shop/shop/web"].departures
    assert (departure.pod, departure.dropped, departure.moved) == ("web-2", 3, 3)


@pytest.mark.parametrize(
    ("action", "reason"), [("Release", BindingReason.RELEASED), ("Disable", BindingReason.POD_DISABLED)]
)
def test_a_proxy_that_began_since_names_the_pod_that_sessions_leave(action, reason):
    """It has met none of them at the pod, which is there."""
    web = pods("web-1", "web-2")
    one = Proxy(fleet(web=web))
    clients = [client for client in returning(one, 10) if client.ask(one).endpoint.pod == "web-1"]
    order = Override(pod="web-1", action=action, since=one.now + 5)
    fresh = Proxy(fleet((route(overrides=(order,)),), web=web, revision=2), now=one.now + 10)
    for client in clients:
        client.ask(fresh)
    (departure,) = said(fresh).scopes["shop/shop/web"].departures
    assert (departure.pod, departure.reason) == ("web-1", reason)
    assert (departure.dropped, departure.moved) == (len(clients), len(clients))


def test_parallel_requests_with_one_old_token_move_once_to_one_pod():
    given, left = fleet(web=pods("a", "b", "c", "d")), fleet(web=pods("b", "c", "d"), revision=2)
    proxies = [Proxy(given, seed=1), Proxy(given, seed=2)]
    client = next(client for client in returning(proxies[0], 4) if client.ask(proxies[0]).endpoint.pod == "a")
    for proxy in proxies:
        proxy.apply(left)
    homes = {proxy.ask(client.token).endpoint.pod for proxy in proxies for _ in range(3)}
    assert len(homes) == 1
    assert [proxy.scope().moved for proxy in proxies] == [1, 1]


def test_a_raised_epoch_counts_a_session_that_stays_though_another_proxy_made_its_token():
    # Parallel requests: each proxy gives a token, and the browser keeps that of the other.
    proxies = [Proxy(fleet(web=pods("web-1")), seed=seed) for seed in (1, 2)]
    token = proxies[0].ask().token
    for epoch in (1, 2):
        raised = [route(rule(persistence=persistence(epoch=epoch)))]
        for proxy in proxies:
            proxy.apply(fleet(raised, web=pods("web-1"), revision=epoch + 1))
        _, kept = [proxy.ask(token) for proxy in proxies for _ in range(2)][1::2]
        token = kept.token
    assert [proxy.scope().moved for proxy in proxies] == [2, 2]


def test_a_pod_that_is_not_ready_loses_those_that_come_and_keeps_the_others():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    clients = returning(proxy, 10)
    proxy.apply(fleet(web=(pod("web-1"), pod("web-2", EndpointState.NOT_READY)), revision=2))
    moved = [client for client in clients[:5] if client.ask(proxy).reason is BindingReason.POD_NOT_READY]
    proxy.apply(fleet(web=pods("web-1", "web-2"), revision=3))
    assert all(client.ask(proxy).reason is BindingReason.BOUND for client in clients)
    (departure,) = said(proxy).scopes["shop/shop/web"].departures
    assert departure.reason is BindingReason.POD_NOT_READY
    assert departure.dropped == departure.moved == len(moved) > 0


def test_the_last_resort_keeps_its_own_sessions_without_a_move():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    clients = returning(proxy, 6)
    homes = [client.ask(proxy).endpoint.pod for client in clients]
    leaving = tuple(pod(name, EndpointState.DRAINING) for name in ("web-1", "web-2"))
    proxy.apply(fleet(web=leaving, revision=2))
    again = [client.ask(proxy) for client in clients]
    assert [decision.endpoint.pod for decision in again] == homes
    assert {decision.reason for decision in again} == {BindingReason.BOUND}
    assert said(proxy).scopes["shop/shop/web"].departures == ()
    proxy.apply(fleet(web=(*leaving, pod("web-3")), revision=3))
    assert {client.ask(proxy).reason for client in clients} == {BindingReason.POD_TERMINATED}
    assert sum(one.dropped for one in said(proxy).scopes["shop/shop/web"].departures) == 6


def test_failed_connects_gather_for_a_while():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    clients = [client for client in returning(proxy, 6) if client.ask(proxy).endpoint.pod == "web-1"]
    for client in clients:
        failed = client.ask(proxy)
        rechoose(proxy.rule(), Request(), failed, proxy.now, proxy.random, tried={failed.endpoint})
        proxy.tick(45)
    departures = said(proxy).scopes["shop/shop/web"].departures
    assert [(one.reason, one.dropped) for one in departures] == [
        (BindingReason.CONNECT_FAILED, 1),
        (BindingReason.CONNECT_FAILED, 2),
    ]


def test_departures_are_forgotten_in_time_and_bounded_in_number():
    proxy = Proxy(fleet(web=pods("keep")))
    for number in range(known_sessions.MAX_DEPARTURES + 10):
        proxy.apply(fleet(web=pods(f"web-{number}"), revision=2 * number + 2))
        returning(proxy, 1)
    scope = proxy.scope()
    assert len(scope.sessions.departures) == known_sessions.MAX_DEPARTURES
    assert scope.sessions.departures[0].pod == f"web-{known_sessions.MAX_DEPARTURES + 8}"
    for _ in range(4):
        proxy.tick(known_sessions.DEFAULT_WINDOW)
    assert len(scope.sessions.departures) == len(scope.sessions.gone) == proxy.table.known.count == 0


def test_a_report_of_very_many_sessions_stays_small_and_says_its_sample():
    names = [f"web-{number}" for number in range(40)]
    proxy = Proxy(fleet(web=pods(*names)))
    returning(proxy, 40_000)
    found = said(proxy)
    assert len(found.model_dump_json()) <= MAX_BYTES
    (scope,) = found.scopes.values()
    assert sum(row.active for row in scope.endpoints) == 40_000
    carried = sum(len(base64.b64decode(row.ids)) // ID_BYTES for row in scope.endpoints)
    assert found.sample < 1
    assert carried / found.sample == pytest.approx(40_000, rel=0.05)


def test_a_report_of_very_many_endpoints_leaves_out_the_idlest():
    names = [f"a-rather-long-name-of-a-pod-{number}" for number in range(2000)]
    proxy = Proxy(fleet(web=pods(*names)))
    for at, endpoint in enumerate(proxy.table.endpoints()):
        endpoint.in_flight = at
    found = said(proxy)
    assert len(found.model_dump_json()) <= MAX_BYTES
    (scope,) = found.scopes.values()
    assert scope.endpoints[0].in_flight == 1999
    assert 400 < len(scope.endpoints) < 2000


def test_a_scope_that_knows_no_session_tells_of_clashes():
    """All of its sessions began before the proxy did, and have ended."""
    proxy = Proxy(fleet(web=pods("web-1")))
    assert said(proxy).scopes == {}
    for _ in range(2):
        proxy.scope().clash(1, proxy.now)
    (counts,) = said(proxy).scopes.values()
    assert list(counts.clashes.values()) == [Clash(times=2, last=proxy.now)]


def test_a_report_gives_way_after_each_endpoint_and_each_few_thousand_sessions():
    proxy = Proxy(fleet(web=pods(*(f"web-{number}" for number in range(2000)))))
    assert sum(1 for _ in report(proxy.table, "proxy-1", 5.0, proxy.now)) >= 2000
    proxy = Proxy(fleet(web=pods("web-1")))
    returning(proxy, 10_000)
    assert sum(1 for _ in report(proxy.table, "proxy-1", 5.0, proxy.now)) >= 4


def test_sessions_come_move_and_go_while_a_report_is_made():
    names = [f"web-{number}" for number in range(20)]
    proxy = Proxy(fleet(web=pods(*names)))
    clients = returning(proxy, 400)
    steps = report(proxy.table, "proxy-1", 5.0, proxy.now)
    revision = 1
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
        clients += returning(proxy, 1)
        revision += 1
        proxy.apply(fleet(web=pods(*names[revision % 20 :]), revision=revision))
        clients[revision].ask(proxy)
    assert revision > 40
    assert found.sample == 1
    (scope,) = found.scopes.values()
    for row in scope.endpoints:
        ids = base64.b64decode(row.ids)
        assert row.active == len({ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)}) > 0


def test_a_report_of_nothing():
    found = said(Proxy(fleet(web=pods("web-1"))))
    assert (found.proxy, found.started, found.epoch, found.revision) == ("proxy-1", 5.0, 1, 1)
    assert (found.sample, found.scopes) == (1.0, {})


def test_rejected_counts_requests_without_an_endpoint():
    proxy = Proxy(fleet(web=()))
    proxy.ask()
    assert said(proxy).scopes["shop/shop/web"].rejected == 1
    assert proxy.scope().decisions() == {BindingReason.BOUND: 0, BindingReason.NO_ENDPOINT: 1}


def test_the_place_of_a_pod_that_went_while_it_was_disabled_is_forgotten():
    orders = (Override(pod="web-1", action="Disable"),)
    routes = [route(rule(persistence=persistence(idle_timeout=60)), overrides=orders)]
    known = Proxy(fleet([route(rule(persistence=persistence(idle_timeout=60)))], web=pods("web-1", "web-2")))
    client = session_on("web-1", known)
    proxy = Proxy(fleet(routes, web=pods("web-1", "web-2")))
    assert client.ask(proxy).reason is BindingReason.POD_DISABLED
    places = proxy.scope().sessions.places
    assert len(places) == 2
    proxy.apply(fleet(routes, 2, web=pods("web-2")))
    proxy.tick(1)
    proxy.tick(1)
    assert [place.pod for place in places.values()] == ["web-2"]


@pytest.mark.parametrize("reason", [BindingReason.POD_TERMINATED, BindingReason.POLICY_CHANGED])
def test_who_comes_back_late_is_of_the_move_that_the_other_proxies_told_long_ago(reason):
    """Else the status would tell of it twice: with them, and once more when they have forgotten."""
    given = {"web": pods("a", "b"), "other": pods("a")}
    one = route(rule("other", services=(("other", 1),), scope="other"), name="other", hosts=("other.test",))
    first, other = (Proxy(fleet((route(), one), **given), seed) for seed in (1, 2))
    client = session_on("a", first)
    gone = {"web": pods("b"), "other": pods("a" if reason is BindingReason.POLICY_CHANGED else "c")}
    for proxy in (first, other):
        proxy.tick(10)
        proxy.apply(fleet((route(), one), revision=2, **gone))
    for _ in range(80):
        other.tick(10)
    assert client.ask(other).reason is reason
    told = [said(proxy).scopes["shop/shop/web"].departures for proxy in (first, other)]
    assert {(one.time, one.reason, one.ids) for departures in told for one in departures} == {
        (first.now, reason, told[0][0].ids)
    }


@pytest.mark.parametrize("kind", ["None", "SourceIP"])
def test_a_policy_that_keeps_no_sessions_has_none_and_one_that_is_taken_back_has_them_again(kind):
    """Else a drain would wait for those that nobody can show any more."""
    proxy = Proxy(fleet(web=pods("a", "b")))
    client = session_on("a", proxy)
    other = route(rule(persistence=persistence(type=kind, cookie=None)))
    proxy.apply(fleet((other,), 2, web=pods("a", "b")))
    assert not any(one.active for one in said(proxy).scopes["shop/shop/web"].endpoints)
    assert proxy.table.known.count == 0
    proxy.apply(fleet(revision=3, web=pods("a", "b")))
    decision = client.ask(proxy)
    assert (decision.reason, decision.endpoint.pod) == (BindingReason.BOUND, "a")
    assert [one.active for one in said(proxy).scopes["shop/shop/web"].endpoints] == [1]
