"""What a binding names: a pod, a StatefulSet's pod whoever bears its name, a version; and restarts."""

from collections import Counter
from itertools import permutations

import pytest
from tests.unit.proxy.fleets import (
    NOW,
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
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.affinity.retry import rechoose
from stickyroute_proxy.slices import at_once


def routed(bind_to, overrides=(), services=(("web", 1),), **policy):
    given = persistence(bind_to=bind_to, idle_timeout=1000, **policy)
    return [route(rule(services=services, persistence=given), overrides=overrides)]


def named(name, uid="", **fields):
    fields = {"id": uid or f"uid-{name}", "stable": f"shop/{name}", "started": NOW - 100} | fields
    return pod(name, **fields)


# StatefulSets

AWAY = (named("web-1"),)
BOTH = (named("web-0"), named("web-1"))
BACK = (named("web-0", "uid-another", address="10.9.9.9", started=NOW + 20), named("web-1"))


@pytest.mark.parametrize("mode", ["Temporary", "Reject"])
def test_a_stateful_pod_that_comes_back_by_its_name_has_its_sessions(mode):
    routes = routed("StatefulPod", failover=Failover(mode=mode))
    proxy = Proxy(fleet(routes, web=BOTH))
    client = session_on("web-0", proxy)
    proxy.apply(fleet(routes, 2, web=AWAY))
    while_away = client.ask(proxy)
    assert while_away.reason is BindingReason.POD_TERMINATED
    assert (while_away.endpoint is None) == (mode == "Reject")
    proxy.tick(30)
    proxy.apply(fleet(routes, 3, web=BACK))
    back = client.ask(proxy)
    assert (back.endpoint.id, back.endpoint.address) == ("uid-another", "10.9.9.9")
    # Its memory is another's: told once.
    assert (back.reason, back.notice) == (BindingReason.CONTAINER_RESTARTED, b"ContainerRestarted")
    assert (client.ask(proxy).reason, proxy.scope().moved) == (BindingReason.BOUND, 0)
    (row,) = at_once(report(proxy.table, "proxy-1", NOW, proxy.now)).scopes["shop/shop/web"].endpoints
    assert (row.endpoint, row.active) == ("uid-another", 1)


def test_with_repin_its_sessions_move_at_once_and_stay_where_they_are():
    routes = routed("StatefulPod")
    proxy = Proxy(fleet(routes, web=BOTH))
    client, quiet = session_on("web-0", proxy), session_on("web-0", proxy)
    proxy.apply(fleet(routes, 2, web=AWAY))
    assert client.ask(proxy).reason is BindingReason.POD_TERMINATED
    proxy.apply(fleet(routes, 3, web=BACK))
    assert client.ask(proxy).endpoint.pod == "web-1"
    # One that asked for nothing in the meantime has noticed nothing.
    assert quiet.ask(proxy).endpoint.id == "uid-another"


def test_its_requests_wait_for_it_where_the_policy_holds_them():
    routes = routed("StatefulPod", failover=Failover(hold=30))
    proxy = Proxy(fleet(routes, web=BOTH))
    client = session_on("web-0", proxy)
    proxy.apply(fleet(routes, 2, web=AWAY))
    decision = client.ask(proxy)
    assert isinstance(decision, Parked)
    proxy.scope().parked[decision.lost.binding.endpoint] = "queue"
    proxy.apply(
        fleet(routes, 3, web=(named("web-0", "uid-new", state=EndpointState.NOT_READY), named("web-1")))
    )
    assert proxy.table.returned() == []
    proxy.apply(fleet(routes, 4, web=BACK))
    assert proxy.table.returned() == ["queue"]


def test_while_old_and_new_overlap_the_new_one_serves():
    routes = routed("StatefulPod", drain_timeout=60)
    proxy = Proxy(fleet(routes, web=BOTH))
    client = session_on("web-0", proxy)
    draining = named("web-0", state=EndpointState.DRAINING, draining_since=proxy.now)
    proxy.apply(fleet(routes, 2, web=(draining, named("web-1"))))
    assert client.ask(proxy).endpoint.id == "uid-web-0"
    proxy.apply(fleet(routes, 3, web=(draining, *BACK)))
    assert client.ask(proxy).endpoint.id == "uid-another"
    proxy.tick(61)
    assert client.ask(proxy).reason is BindingReason.BOUND
    assert not proxy.scope().sessions.departures


def test_the_old_one_serves_until_the_new_one_can():
    routes = routed("StatefulPod", drain_timeout=60)
    proxy = Proxy(fleet(routes, web=BOTH))
    client = session_on("web-0", proxy)
    draining = named("web-0", state=EndpointState.DRAINING, draining_since=proxy.now)
    starting = named("web-0", "uid-another", state=EndpointState.NOT_READY)
    for order in ((draining, starting), (starting, draining)):
        proxy.apply(fleet(routes, 2, web=(*order, named("web-1"))))
        assert client.ask(proxy).endpoint.id == "uid-web-0"
        proxy.apply(fleet(routes, 3, web=(named("web-1"),)))


def test_a_pod_that_bears_no_name_is_gone_for_good():
    routes = routed("StatefulPod", failover=Failover(mode="Temporary"))
    proxy = Proxy(fleet(routes, web=pods("web-a", "web-b")))
    client = session_on("web-a", proxy)
    proxy.apply(fleet(routes, 2, web=pods("web-b", "web-c")))
    assert client.ask(proxy).set_token is not None


def test_a_stateful_pod_s_name_can_be_released():
    proxy = Proxy(fleet(routed("StatefulPod"), web=BOTH))
    client = session_on("web-0", proxy)
    orders = (Override(pod="web-0", action="Release", since=proxy.now + 1),)
    proxy.apply(fleet(routed("StatefulPod", orders), 2, web=BOTH))
    assert (client.ask(proxy).reason, client.ask(proxy).endpoint.pod) == (BindingReason.RELEASED, "web-1")


def test_to_name_pods_otherwise_ends_bindings_as_a_change_of_policy():
    proxy = Proxy(fleet(routed("Pod"), web=BOTH))
    client = session_on("web-0", proxy)
    proxy.apply(fleet(routed("StatefulPod"), 2, web=BOTH))
    assert client.ask(proxy).reason is BindingReason.POLICY_CHANGED
    assert client.ask(proxy).reason is BindingReason.BOUND


# Cohorts


def version(service, cohort, count=3, **fields):
    return tuple(pod(f"{service}-{n}", cohort=cohort, **fields) for n in range(count))


SPLIT = (("web", 1), ("canary", 1))


def test_a_cohort_s_sessions_stay_with_their_version_on_any_pod_of_it():
    proxy = Proxy(
        fleet(routed("Cohort", services=SPLIT), web=version("web", "v1"), canary=version("canary", "v2"))
    )
    client = Client()
    service = client.ask(proxy).endpoint.service
    seen = Counter(client.ask(proxy).endpoint.pod for _ in range(30))
    assert seen == {f"{service}-{n}": 10 for n in range(3)}
    # Whatever the weights say now.
    for services in ((("web", 0), ("canary", 1)), (("web", 1), ("canary", 0))):
        proxy.apply(
            fleet(
                routed("Cohort", services=services),
                2,
                web=version("web", "v1"),
                canary=version("canary", "v2"),
            )
        )
        assert {client.ask(proxy).endpoint.service for _ in range(9)} == {service}
    sessions = at_once(report(proxy.table, "p", NOW, proxy.now)).scopes["shop/shop/web"].endpoints
    assert sum(row.active for row in sessions) == 1


def test_pods_of_a_cohort_come_and_go_without_a_move():
    routes = routed("Cohort")
    proxy = Proxy(fleet(routes, web=version("web", "v1")))
    client = session_on("web-0", proxy)
    later = (pod("web-9", cohort="v1"), pod("web-8", EndpointState.NOT_READY, cohort="v1"))
    proxy.apply(fleet(routes, 2, web=later))
    assert {client.ask(proxy).endpoint.pod for _ in range(5)} == {"web-9"}
    assert proxy.scope().moved == 0
    proxy.apply(fleet(routes, 3, web=version("web", "v2")))
    moved = client.ask(proxy)
    assert moved.reason is BindingReason.POD_TERMINATED
    assert len({client.ask(proxy).endpoint.pod for _ in range(9)}) == 3
    (departed,) = proxy.scope().sessions.departures
    assert (departed.dropped, departed.moved) == (1, 1)


def test_a_refused_connection_is_another_pod_s_of_the_cohort():
    proxy = Proxy(fleet(routed("Cohort", services=SPLIT), web=version("web", "v1"), canary=()))
    client = session_on("web-1", proxy)
    failed = client.ask(proxy)
    tried = {failed.endpoint}
    for _ in range(2):
        failed = rechoose(proxy.rule(), Request(), failed, proxy.now, proxy.random, tried=tried)
        assert (failed.reason, failed.endpoint in tried) == (BindingReason.BOUND, False)
        tried.add(failed.endpoint)


def test_a_cohort_that_drains_keeps_its_sessions_until_its_deadline():
    routes = routed("Cohort", drain_timeout=60)
    proxy = Proxy(fleet(routes, web=version("web", "v1")))
    client = session_on("web-0", proxy)
    old = version("web", "v1", state=EndpointState.DRAINING, draining_since=proxy.now)
    proxy.apply(fleet(routes, 2, web=(*old, *version("new", "v2"))))
    assert {client.ask(proxy).endpoint.service for _ in range(3)} == {"web"}
    assert client.ask(proxy).endpoint.pod.startswith("web")
    proxy.tick(61)
    assert proxy.scope().sessions.departures[0].dropped == 1
    moved = client.ask(proxy)
    assert (moved.reason, moved.endpoint.pod[:3]) == (BindingReason.POD_TERMINATED, "new")


# Restarts


def test_a_container_that_began_anew_is_told_of_once_a_session_and_by_any_proxy():
    before = fleet(web=(pod("web-1", started=NOW - 50),))
    one, other = Proxy(before), Proxy(before, seed=9)
    early = [Client() for _ in range(5)]
    for client in early:
        client.ask(one)
        client.ask(one)
    for proxy in (one, other):
        proxy.tick(10)
        proxy.apply(fleet(revision=2, web=(pod("web-1", started=NOW + 5),)))
    late = Client()
    late.ask(one)
    for client in early:
        told = client.ask(other)
        assert (told.reason, told.notice) == (BindingReason.CONTAINER_RESTARTED, b"ContainerRestarted")
        for proxy in (one, other):
            assert (client.ask(proxy).reason, client.ask(proxy).notice) == (BindingReason.BOUND, None)
    assert late.ask(one).reason is BindingReason.BOUND
    assert (one.scope().restarted, other.scope().restarted) == (0, 5)
    assert one.scope().moved == other.scope().moved == 0
    assert at_once(report(other.table, "p", NOW, other.now)).scopes["shop/shop/web"].restarted == 5


def test_parallel_requests_with_one_old_token_are_told_once():
    proxy, client = Proxy(fleet(web=(pod("web-1", started=NOW - 50),))), Client()
    client.ask(proxy)
    client.ask(proxy)
    proxy.tick(10)
    proxy.apply(fleet(revision=2, web=(pod("web-1", started=NOW + 5),)))
    answers = [proxy.ask(client.token) for _ in range(6)]
    assert [answer.notice for answer in answers] == [b"ContainerRestarted", *[None] * 5]
    assert proxy.scope().restarted == 1


@pytest.mark.parametrize("away", [(), (pod("web-1", EndpointState.DRAINING, draining_since=NOW - 1e6),)])
@pytest.mark.parametrize("started", [NOW - 50, NOW + 15])
def test_a_pod_that_comes_back_has_its_sessions_again_and_a_restart_meanwhile_is_told(away, started):
    """It had left the scope, by a label or a selector, or its drain was over."""
    first = pod("web-1", started=NOW - 50)
    proxy, client = Proxy(fleet(web=(first, pod("web-2")))), Client()
    while client.ask(proxy).endpoint.pod != "web-1":
        client = Client()
    client.ask(proxy)
    proxy.tick(10)
    proxy.apply(fleet(revision=2, web=(*away, pod("web-2"))))
    proxy.tick(10)
    proxy.apply(fleet(revision=3, web=(pod("web-1", started=started), pod("web-2"))))
    assert proxy.scope().sessions.at(proxy.find("web-1")[0]) == 1
    restarted = started > NOW
    notices = [client.ask(proxy).notice for _ in range(3)]
    assert notices == [b"ContainerRestarted" if restarted else None, None, None]
    assert (proxy.scope().restarted, proxy.scope().moved) == (restarted, 0)


@pytest.mark.parametrize("ahead", [-5, 0, 5])
def test_a_pod_whose_clock_differs_has_not_restarted(ahead):
    proxy, client = Proxy(fleet(web=(pod("web-1", started=NOW + ahead),))), Client()
    assert client.ask(proxy).reason is BindingReason.NEW
    for _ in range(3):
        assert client.ask(proxy).reason is BindingReason.BOUND
        proxy.tick(3)
    proxy.apply(fleet(revision=2, web=(pod("web-1", started=proxy.now + ahead),)))
    assert client.ask(proxy).reason is BindingReason.CONTAINER_RESTARTED
    for _ in range(3):
        assert client.ask(proxy).reason is BindingReason.BOUND


@pytest.mark.parametrize(("before", "after"), list(permutations(("Pod", "StatefulPod", "Cohort"), 2)))
def test_who_is_bound_anew_for_names_are_others_is_told_of_with_the_pod(before, after):
    both = tuple(named(name, cohort=f"of-{name}") for name in ("web-0", "web-1"))
    proxy = Proxy(fleet(routed(before), web=both))
    clients = [session_on("web-0", proxy) for _ in range(8)]
    proxy.apply(fleet(routed(after), 2, web=both))
    assert {client.ask(proxy).reason for client in clients} == {BindingReason.POLICY_CHANGED}
    assert {client.ask(proxy).reason for client in clients} == {BindingReason.BOUND}
    (departed,) = proxy.scope().sessions.departures
    assert (departed.pod, departed.reason, departed.dropped, departed.moved) == (
        "web-0",
        BindingReason.POLICY_CHANGED,
        8,
        8,
    )
    sessions = at_once(report(proxy.table, "p", NOW, proxy.now)).scopes["shop/shop/web"].endpoints
    assert sum(row.active for row in sessions) == 8
