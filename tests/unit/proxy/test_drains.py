"""Whether a terminating pod may end: by what the operator told of all proxies, and what this one knows."""

import pytest
from tests.component.control.support import endpoint
from tests.unit.operator.test_leases import BEGAN, TIMEOUT, draining

from stickyroute_api.leases import Drain
from stickyroute_api.reasons import EndpointState
from stickyroute_proxy.affinity.drains import FAREWELL, SETTLE, Pod, answer, greater, pods

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
