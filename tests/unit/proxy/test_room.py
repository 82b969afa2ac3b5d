"""New sessions go where there is room; others stay where they belong."""

from collections import Counter
from random import Random

from tests.unit.proxy.fleets import Client, Proxy, Request, fleet, persistence, pods, route, rule

from stickyroute_api.reasons import BindingReason
from stickyroute_api.snapshot import Balancing, HashOn, SessionLimits
from stickyroute_proxy.affinity.retry import sidestep


def aside(proxy, decision, room=1, tried=()):
    return sidestep(proxy.rule(), Request(), decision, room, proxy.random, tried=tried)


def busy(proxy, *names, count=1):
    for endpoint in proxy.table.endpoints():
        if endpoint.pod in names:
            endpoint.in_flight = count


def test_a_session_that_begins_goes_where_there_is_room_and_its_token_says_so():
    proxy = Proxy(fleet(web=pods("a", "b", "c")))
    busy(proxy, "a", "b")
    decisions = [proxy.ask() for _ in range(6)]
    moved = [aside(proxy, decision) for decision in decisions]
    assert {decision.endpoint.pod for decision in moved} == {"c"}
    for decision in moved:
        assert decision.reason is BindingReason.NEW
        assert proxy.ask(decision.set_token).endpoint.pod == "c"
    assert proxy.scope().new == 6


def test_so_does_a_request_without_a_session():
    proxy = Proxy(fleet([route(rule(persistence=persistence(type="None")))], web=pods("a", "b")))
    busy(proxy, "a")
    decision = aside(proxy, proxy.ask())
    assert (decision.endpoint.pod, decision.set_token) == ("b", None)


def test_a_bound_session_waits_for_its_own():
    proxy, client = Proxy(fleet(web=pods("a", "b"))), Client()
    own = client.ask(proxy).endpoint
    busy(proxy, own.pod)
    bound = client.ask(proxy)
    assert aside(proxy, bound) is bound
    # One that moves is expected at the same new pod by every proxy.
    proxy.apply(fleet(revision=2, web=tuple(pod for pod in pods("a", "b", "c") if pod.pod != own.pod)))
    moving = client.ask(proxy)
    busy(proxy, moving.endpoint.pod)
    assert aside(proxy, moving) is moving


def by_user(kind):
    balancing = Balancing(algorithm="Hash", hash_on=HashOn(type="Header", name="X-User"))
    return Proxy(
        fleet([route(rule(balancing=balancing, persistence=persistence(type=kind)))], web=pods(*"abcde"))
    )


def test_a_request_that_its_hashed_value_alone_leads_waits_for_its_own():
    proxy, ann = by_user("None"), Request(headers={b"x-user": b"ann"})
    decision = proxy.ask(headers=ann.headers)
    busy(proxy, decision.endpoint.pod)
    assert sidestep(proxy.rule(), ann, decision, 1, proxy.random, tried=()) is decision
    # Without the value nothing leads it there again.
    other = proxy.ask()
    busy(proxy, other.endpoint.pod)
    assert aside(proxy, other).endpoint is not other.endpoint


def test_a_session_placed_by_hash_goes_to_its_values_next_pod_and_keeps_that():
    proxy, ann = by_user("Cookie"), Request(headers={b"x-user": b"ann"})
    decision = proxy.ask(headers=ann.headers)
    busy(proxy, decision.endpoint.pod)
    found = {sidestep(proxy.rule(), ann, decision, 1, proxy.random, tried=()).endpoint for _ in range(9)}
    (endpoint,) = found
    assert endpoint is not decision.endpoint
    token = sidestep(proxy.rule(), ann, decision, 1, proxy.random, tried=()).set_token
    busy(proxy, decision.endpoint.pod, count=0)
    assert proxy.ask(token, headers=ann.headers).endpoint is endpoint


def test_where_all_are_full_or_waited_for_it_stays():
    proxy = Proxy(fleet(web=pods("a", "b")))
    busy(proxy, "a", "b")
    decision = proxy.ask()
    assert aside(proxy, decision) is decision
    first, second = proxy.table.endpoints()
    second.in_flight, second.queue = 0, ["one who waits"]
    assert aside(proxy, decision) is decision
    second.queue = []
    assert aside(proxy, decision).endpoint is second
    assert aside(proxy, decision, tried=[second]) is decision
    assert first.in_flight == 1


def test_room_is_shared_by_weight():
    given = fleet(
        [route(rule(services=(("web", 3), ("canary", 1), ("off", 0))))],
        web=pods("a", "b", "full"),
        canary=pods("c"),
        off=pods("d"),
    )
    proxy = Proxy(given)
    busy(proxy, "full")
    balancer, random = proxy.rule().balancer, Random(1)
    picked = Counter(
        balancer.pick_below(Request(), lambda one: one.in_flight < 1, random).pod for _ in range(4000)
    )
    assert picked.keys() == {"a", "b", "c"}
    assert 850 < picked["c"] < 1150
    assert 1350 < picked["a"] < 1650


def test_a_limit_of_requests_is_a_pod_s_whatever_port_they_go_to():
    limited = persistence(limits=SessionLimits(requests=2))
    rules = [rule(name, ((name, 1),), persistence=limited) for name in ("web", "admin")]
    proxy = Proxy(fleet([route(*rules)], web=pods("a"), admin=pods("a")))
    for endpoint in proxy.table.endpoints():
        endpoint.in_flight = 1
    assert proxy.ask().reason is BindingReason.AT_LIMIT
