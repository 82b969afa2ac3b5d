"""Whether a terminating pod may end: by what the operator told of all proxies, and what this one knows."""

import pytest
from tests.component.control.support import endpoint
from tests.unit.operator.test_leases import BEGAN, TIMEOUT, draining
from tests.unit.proxy.fleets import Proxy, fleet, pod, route, rule

from stickyroute_api.leases import Drain
from stickyroute_api.reasons import EndpointState
from stickyroute_proxy.affinity.drains import FAREWELL, SETTLE, Pod, answer, greater, left, pods
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.slices import at_once

POD = Pod(draining=True, since=BEGAN, until=BEGAN + TIMEOUT)
LATER = BEGAN + SETTLE
OVER = BEGAN + TIMEOUT


def drain(sessions=0, requests=0, tunnels=0, since=BEGAN):
    return Drain(sessions=sessions, requests=requests, tunnels=tunnels, since=since)


@pytest.mark.parametrize(
    ("pod", "lease", "here", "now", "drained"),
    [
        (Pod(draining=False), None, None, OVER, False),
        (Pod(draining=False), drain(), None, OVER, False),
        (POD, None, None, LATER, False),
        (POD, None, drain(), LATER, False),
        (POD, None, None, OVER, True),
        (POD, drain(), None, LATER - 0.1, False),
        (POD, drain(), None, LATER, True),
        (POD, drain(), drain(), LATER, True),
        (POD, drain(3), drain(), LATER, False),
        (POD, drain(), drain(1), LATER, False),
        (POD, drain(), drain(requests=1), LATER, False),
        (POD, drain(requests=1), drain(), LATER, False),
        (POD, drain(3), drain(3), OVER - 0.1, False),
        (POD, drain(3), drain(3), OVER, True),
        (POD, drain(since=BEGAN - 600), drain(), LATER, False),
        (POD, drain(3, tunnels=1), None, OVER + FAREWELL - 0.1, False),
        (POD, drain(3, tunnels=1), None, OVER + FAREWELL, True),
        (Pod(True, BEGAN, BEGAN), None, None, BEGAN, True),
        (Pod(True, BEGAN, BEGAN), None, drain(tunnels=1), BEGAN, False),
        (Pod(True, BEGAN, BEGAN), None, drain(tunnels=1), BEGAN + FAREWELL, True),
    ],
    ids=[
        "it serves",
        "it serves, and an older drain of its name was told",
        "not told",
        "not told, and nothing here",
        "not told, and its time is up",
        "just begun",
        "nothing anywhere",
        "nothing anywhere, here neither",
        "sessions elsewhere",
        "a session that has just come here",
        "a request here",
        "a request elsewhere",
        "sessions until the last moment",
        "its time is up",
        "told of its predecessor",
        "its WebSockets are being closed",
        "its WebSockets had their time",
        "no drain timeout",
        "no drain timeout, and WebSockets here are being closed",
        "no drain timeout, and WebSockets here had their time",
    ],
)
def test_whether_a_pod_may_end(pod, lease, here, now, drained):
    found = answer(pod, lease, here, now)
    assert found.drained is drained
    assert found.why


def test_the_greater_number_is_told():
    found = answer(POD, drain(3, requests=1), drain(2, requests=4), LATER)
    assert (found.left.sessions, found.left.requests, found.until) == (3, 4, OVER)
    assert answer(POD, None, drain(5), LATER).left is None, "what one proxy knows is not the fleet's"
    assert greater([]) is None


def with_policy(made, *timeouts):
    """The snapshot with so many routes that use its one Service, each with its own drain timeout."""
    first = made.routes["shop/route-0"]
    routes = {}
    for number, timeout in enumerate(timeouts):
        (rule,) = first.rules
        policy = rule.persistence.model_copy(update={"drain_timeout": timeout})
        rules = (rule.model_copy(update={"persistence": policy}),)
        route = first.model_copy(update={"name": f"route-{number}", "rules": rules})
        routes[route.key] = route
    return made.model_copy(update={"routes": routes})


def test_the_latest_of_the_scopes_ends_a_drain():
    assert pods(with_policy(draining(), 10.0, 300.0, 0.0))["shop/web-0-0"] == POD


def test_a_pod_that_cannot_serve_has_no_time_left():
    assert pods(draining(serving=False))["shop/web-0-0"].until == BEGAN


def test_pods_that_serve_and_pods_that_no_route_knows():
    found = pods(draining())
    assert found["shop/web-0-1"] == Pod(draining=False)
    assert "shop/web-0-9" not in found
    assert "web-0-0" not in found
    assert pods(draining().model_copy(update={"routes": {}})) == {}


@pytest.mark.parametrize("turned", [False, True])
def test_a_pod_that_still_serves_behind_another_service_does_not_drain(turned):
    made = draining()
    (rule,) = made.routes["shop/route-0"].rules
    keys = ("shop/web-0:8080", "shop/api:8080")
    backends = tuple(rule.backends[0].model_copy(update={"endpoints": key}) for key in keys)
    rule = rule.model_copy(update={"backends": backends[::-1] if turned else backends})
    route = made.routes["shop/route-0"].model_copy(update={"rules": (rule,)})
    serves = endpoint(0, state=EndpointState.SERVING)
    made = made.model_copy(
        update={"routes": {"shop/route-0": route}, "endpoints": made.endpoints | {keys[1]: (serves,)}}
    )
    assert pods(made)["shop/web-0-0"] == Pod(draining=False)


def told_of_requests(proxy):
    """What the drain port and the report say of the only pod's."""
    (row,) = at_once(report(proxy.table, "p", 1.0, proxy.now)).scopes["shop/shop/web"].endpoints
    return left(proxy.table, {})["shop/web-0"].requests, row.in_flight


@pytest.mark.parametrize("busy", [("web", "admin"), ("web",), ("admin",)])
def test_requests_to_all_ports_of_a_pod_are_counted(busy):
    """A scope knows a pod once, and every Service or port of it is an endpoint of its own."""
    ends = pod("web-0", EndpointState.DRAINING, serving=True)
    routes = (route(rule(), rule("admin", services=(("admin", 1),))),)
    proxy = Proxy(fleet(routes, web=(ends,), admin=(ends,)))
    for one in proxy.table.endpoints():
        one.in_flight = one.service in busy
    assert told_of_requests(proxy) == (len(busy), len(busy))


def test_requests_are_counted_to_their_end_whatever_becomes_of_the_set():
    """A Service's port or a health check has changed: the pod has another endpoint, and serves on."""
    ends = pod("web-0", EndpointState.DRAINING, serving=True)
    proxy = Proxy(fleet(web=(ends,)))
    (before,) = proxy.table.endpoints()
    before.in_flight = 2
    first = fleet(web=(ends,))
    (only,) = first.routes["shop/shop"].rules
    for revision, key in enumerate(("shop/web:81", "shop/web:81~check"), 2):
        backends = (only.backends[0].model_copy(update={"endpoints": key}),)
        moved = route(only.model_copy(update={"backends": backends}))
        update = {"revision": revision, "routes": {moved.key: moved}, "endpoints": {key: (ends,)}}
        proxy.apply(first.model_copy(update=update))
        assert told_of_requests(proxy) == (2, 2)
    before.in_flight = 0
    assert left(proxy.table, {})["shop/web-0"].requests == 0
