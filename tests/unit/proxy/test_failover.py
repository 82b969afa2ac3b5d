"""What becomes of a session whose binding holds no more: by its reason and the failover mode."""

from collections import Counter

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

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Failover, Override
from stickyroute_proxy.affinity.decision import Parked
from stickyroute_proxy.affinity.failover import give_up, refusal
from stickyroute_proxy.affinity.retry import prolong, rechoose

AWAY = EndpointState.NOT_READY
REST = pods("web-2", "web-3")


def routed(overrides=(), policy=None, **failover):
    return [
        route(
            rule(
                persistence=persistence(
                    failover=Failover(**failover), idle_timeout=1000, absolute_timeout=9000, **policy or {}
                )
            ),
            overrides=overrides,
        )
    ]


def lose(proxy, how, **failover):
    """Take web-1 away; the reason that its sessions then have."""
    routes = routed(**failover)
    match how:
        case "not ready":
            proxy.apply(fleet(routes, 2, web=(pod("web-1", AWAY, serving=False), *REST)))
            return BindingReason.POD_NOT_READY
        case "unhealthy":
            proxy.touch("web-1", unhealthy=True)
            return BindingReason.POD_UNHEALTHY
        case "disabled":
            orders = (Override(pod="web-1", action="Disable"),)
            proxy.apply(fleet(routed(orders, **failover), 2, web=(pod("web-1"), *REST)))
            return BindingReason.POD_DISABLED
        case "gone":
            proxy.apply(fleet(routes, 2, web=REST))
            return BindingReason.POD_TERMINATED
        case "terminating":
            proxy.apply(fleet(routes, 2, web=(pod("web-1", EndpointState.DRAINING), *REST)))
            return BindingReason.POD_TERMINATED
        case "elsewhere":
            others = route(rule(services=(("other", 1),)), name="other", hosts=("other.example.com",))
            proxy.apply(fleet([*routes, others], 2, web=REST, other=(pod("web-1"),)))
            return BindingReason.POLICY_CHANGED


def give_back(proxy, how, **failover):
    proxy.apply(fleet(routed(**failover), 3, web=(pod("web-1"), *REST)))
    if how == "unhealthy":
        proxy.touch("web-1", unhealthy=False)


PASSING = ["not ready", "unhealthy", "disabled"]
FOR_GOOD = ["gone", "terminating", "elsewhere"]


def start(**failover):
    proxy = Proxy(fleet(routed(**failover), web=(pod("web-1"), *REST)))
    return proxy, session_on("web-1", proxy)


@pytest.mark.parametrize("how", PASSING + FOR_GOOD)
def test_repin_moves_the_session_for_good(how):
    proxy, client = start()
    reason = lose(proxy, how)
    moved = client.ask(proxy)
    assert (moved.reason, moved.notice) == (reason, reason.value.encode())
    assert moved.endpoint.pod != "web-1"
    give_back(proxy, how)
    assert client.ask(proxy).endpoint.pod == moved.endpoint.pod
    assert proxy.scope().moved == 1


@pytest.mark.parametrize("how", PASSING)
def test_temporary_lodges_while_the_pod_can_come_back(how):
    proxy, client = start(mode="Temporary")
    reason = lose(proxy, how, mode="Temporary")
    shown = client.token
    lodgings = {client.ask(proxy).endpoint.pod for _ in range(5)}
    assert len(lodgings) == 1
    lodged = client.ask(proxy)
    assert (lodged.reason, lodged.set_token, lodged.notice) == (reason, None, reason.value.encode())
    # Its idle timer is not refreshed.
    proxy.tick(999)
    assert client.ask(proxy).set_token is None
    give_back(proxy, how, mode="Temporary")
    assert client.ask(proxy).endpoint.pod == "web-1"
    assert proxy.ask(shown).endpoint.pod == "web-1"
    assert proxy.scope().moved == 0


def test_what_a_lodger_opens_does_not_prolong_its_binding():
    proxy, client = start(mode="Temporary")
    home = client.ask(proxy)
    assert prolong(proxy.rule(), home, proxy.now) is not None
    lose(proxy, "not ready", mode="Temporary")
    assert prolong(proxy.rule(), client.ask(proxy), proxy.now) is None


def test_a_lodger_s_idle_timer_runs():
    proxy, client = start(mode="Temporary")
    lose(proxy, "not ready", mode="Temporary")
    for _ in range(11):
        proxy.tick(99.9)
        assert client.ask(proxy).reason is BindingReason.POD_NOT_READY
    proxy.tick(2)
    assert client.ask(proxy).reason is BindingReason.IDLE_TIMEOUT


@pytest.mark.parametrize("how", FOR_GOOD)
def test_temporary_moves_the_session_of_a_pod_that_is_gone_for_good(how):
    proxy, client = start(mode="Temporary")
    reason = lose(proxy, how, mode="Temporary")
    moved = client.ask(proxy)
    assert (moved.reason, moved.set_token is None) == (reason, False)
    assert client.ask(proxy).reason is BindingReason.BOUND


@pytest.mark.parametrize("how", PASSING)
def test_reject_turns_away_while_the_pod_can_come_back(how):
    proxy, client = start(mode="Reject", status=502)
    reason = lose(proxy, how, mode="Reject", status=502)
    for _ in range(3):
        decision = client.ask(proxy)
        assert (decision.endpoint, decision.reason, decision.set_token) == (None, reason, None)
        assert refusal(proxy.rule(), decision)[::2] == (502, b"")
    assert proxy.scope().rejected == 3
    give_back(proxy, how, mode="Reject", status=502)
    assert client.ask(proxy).endpoint.pod == "web-1"


@pytest.mark.parametrize("how", FOR_GOOD)
def test_reject_ends_the_session_of_a_pod_that_is_gone_for_good(how):
    proxy, client = start(mode="Reject")
    reason = lose(proxy, how, mode="Reject")
    decision = client.ask(proxy)
    assert (decision.endpoint, decision.reason, decision.set_token) == (None, reason, b"")
    (departed,) = proxy.scope().sessions.departures
    assert (departed.reason, departed.dropped, departed.moved) == (reason, 1, 0)
    assert client.ask(proxy).reason is BindingReason.NEW
    assert proxy.table.known.count == 0


@pytest.mark.parametrize("how", PASSING + FOR_GOOD)
def test_redirect_ends_the_session(how):
    proxy, client = start(mode="Redirect", redirect_url="/login")
    reason = lose(proxy, how, mode="Redirect", redirect_url="/login")
    decision = client.ask(proxy)
    assert (decision.endpoint, decision.reason, decision.set_token) == (None, reason, b"")
    assert refusal(proxy.rule(), decision)[::2] == (302, b"/login")


@pytest.mark.parametrize("mode", ["Repin", "Temporary", "Reject", "Redirect"])
@pytest.mark.parametrize("order", ["epoch", "release"])
def test_what_is_ended_by_order_is_bound_anew_whatever_the_mode(mode, order):
    proxy, client = start(mode=mode)
    proxy.tick(1)
    if order == "epoch":
        routes, reason = routed(mode=mode, policy={"epoch": 1}), BindingReason.EPOCH_RAISED
    else:
        release = (Override(pod="web-1", action="Release", since=proxy.now),)
        routes, reason = routed(release, mode=mode), BindingReason.RELEASED
    proxy.apply(fleet(routes, 2, web=(pod("web-1"), *REST)))
    assert client.ask(proxy).reason is reason
    assert client.ask(proxy).reason is BindingReason.BOUND


@pytest.mark.parametrize("mode", ["Repin", "Temporary", "Reject", "Redirect"])
def test_where_nobody_is_better_off_a_session_stays(mode):
    proxy = Proxy(fleet(routed(mode=mode), web=pods("web-1")))
    client = session_on("web-1", proxy)
    proxy.touch("web-1", unhealthy=True)
    assert client.ask(proxy).reason is BindingReason.BOUND


@pytest.mark.parametrize("mode", ["Repin", "Temporary"])
def test_where_nobody_can_serve_the_binding_stays(mode):
    proxy, client = start(mode=mode)
    away = tuple(pod(f"web-{n}", AWAY, serving=False) for n in (1, 2, 3))
    proxy.apply(fleet(routed(mode=mode), 2, web=away))
    decision = client.ask(proxy)
    assert (decision.reason, decision.set_token) == (BindingReason.NO_ENDPOINT, None)
    assert refusal(proxy.rule(), decision).status == 503
    give_back(proxy, "not ready", mode=mode)
    assert client.ask(proxy).endpoint.pod == "web-1"


@pytest.mark.parametrize(
    ("mode", "endpoint", "set_token"),
    [("Repin", True, True), ("Temporary", True, False), ("Reject", False, False), ("Redirect", False, True)],
)
def test_a_refused_connection_fails_over_by_the_mode(mode, endpoint, set_token):
    proxy, client = start(mode=mode)
    bound = client.ask(proxy)
    tried = {bound.endpoint}
    decision = rechoose(proxy.rule(), Request(), bound, proxy.now, proxy.random, tried=tried)
    assert decision.reason is BindingReason.CONNECT_FAILED
    assert (decision.endpoint is not None, decision.set_token is not None) == (endpoint, set_token)
    if endpoint:
        again = rechoose(proxy.rule(), Request(), decision, proxy.now, proxy.random, tried=tried)
        assert again.endpoint not in (bound.endpoint, decision.endpoint)
        assert again.reason is BindingReason.CONNECT_FAILED
        assert (again.set_token is not None) == set_token
        assert rechoose(
            proxy.rule(), Request(), again, proxy.now, proxy.random, tried={*tried, decision.endpoint}
        ).reason is (BindingReason.NO_ENDPOINT)


@pytest.mark.parametrize("mode", ["Repin", "Temporary", "Reject", "Redirect"])
@pytest.mark.parametrize("how", PASSING + FOR_GOOD)
def test_each_decision_is_counted_once_under_its_one_reason(how, mode):
    proxy, client = start(mode=mode)
    scope = proxy.scope()
    before = Counter(scope.decisions())
    lose(proxy, how, mode=mode)
    seen = Counter(client.ask(proxy).reason for _ in range(5))
    assert Counter(scope.decisions()) - before == seen
    # What its pod's loss has cost it is told once in the report, where it has left it.
    left = [(one.reason, one.dropped) for one in scope.sessions.departures]
    stays = how in PASSING and mode in ("Temporary", "Reject")
    assert len(left) == (0 if stays else 1)
    assert all(dropped == 1 for _, dropped in left)
    assert scope.moved == (1 if mode == "Repin" or (mode == "Temporary" and not stays) else 0)


@pytest.mark.parametrize("how", PASSING)
def test_a_request_is_held_first_where_the_pod_can_come_back(how):
    proxy, client = start(mode="Reject", hold=5)
    reason = lose(proxy, how, mode="Reject", hold=5)
    decision = client.ask(proxy)
    assert isinstance(decision, Parked)
    assert (decision.endpoint, decision.reason) == (None, reason)
    assert proxy.scope().rejected == 0
    after = give_up(proxy.rule(), decision, proxy.now)
    assert (after.endpoint, after.reason, proxy.scope().rejected) == (None, reason, 1)
    assert not isinstance(after, Parked)


@pytest.mark.parametrize("how", FOR_GOOD)
def test_nobody_waits_for_what_is_gone_for_good(how):
    proxy, client = start(hold=5)
    assert client.ask(proxy).endpoint.pod == "web-1"
    reason = lose(proxy, how, hold=5)
    assert client.ask(proxy).reason is reason


def test_those_who_wait_are_told_once_when_it_is_back():
    proxy, client = start(hold=5)
    lose(proxy, "not ready", hold=5)
    decision = client.ask(proxy)
    proxy.scope().parked[decision.lost.binding.endpoint] = "those who wait"
    assert proxy.table.returned() == []
    proxy.apply(fleet(routed(hold=5), 3, web=(pod("web-1", AWAY, serving=False), *pods("web-2"))))
    assert proxy.table.returned() == []
    give_back(proxy, "not ready", hold=5)
    assert proxy.table.returned() == ["those who wait"]
    assert proxy.table.returned() == []


@pytest.mark.parametrize("how", PASSING)
@pytest.mark.parametrize("gone", ["gone", "terminating", "elsewhere"])
def test_those_who_wait_are_told_when_their_pod_is_gone_for_good(how, gone):
    proxy, client = start(hold=5)
    lose(proxy, how, hold=5)
    decision = client.ask(proxy)
    proxy.scope().parked[decision.lost.binding.endpoint] = "those who wait"
    lose(proxy, gone, hold=5)
    assert proxy.table.returned() == ["those who wait"]
    assert not proxy.scope().parked


@pytest.mark.parametrize("behind", [1, 5])
def test_a_release_ends_each_binding_once_whatever_the_clocks_say(behind):
    proxy, client = start()
    proxy.apply(fleet(routed(), 2, web=(pod("web-1"),)))
    # The order bears another clock's time.
    orders = (Override(pod="web-1", action="Release", since=proxy.now + behind),)
    proxy.tick(1)
    proxy.apply(fleet(routed(orders), 3, web=(pod("web-1"),)))
    assert client.ask(proxy).reason is BindingReason.RELEASED
    fresh = Client()
    assert fresh.ask(proxy).reason is BindingReason.NEW
    for _ in range(3):
        proxy.tick(0.5)
        assert client.ask(proxy).reason is BindingReason.BOUND
        assert fresh.ask(proxy).reason is BindingReason.BOUND


def test_a_move_by_an_older_snapshot_keeps_a_later_epoch():
    newer, older = start()[0], start()[0]
    newer.apply(fleet(routed(policy={"epoch": 1}), 2, web=(pod("web-1"), *REST)))
    client = session_on("web-1", newer)
    assert client.ask(older).reason is BindingReason.BOUND
    lose(older, "gone")
    assert client.ask(older).reason is BindingReason.POD_TERMINATED
    assert client.ask(newer).reason is BindingReason.BOUND
