"""Which bindings to an endpoint have ended, where that concerns all of them."""

from math import inf

import pytest
from tests.unit.proxy.fleets import NOW, Proxy, fleet, persistence, pod, route, rule

from stickyroute_api import snapshot
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_proxy.affinity.ends import End, end

A, B = pod("a"), pod("b")
GONE = End(inf, BindingReason.POD_TERMINATED)


def draining(since, **more):
    return pod("a", EndpointState.DRAINING, draining_since=since, **more)


def order(action, since=0.0, of="a"):
    return (snapshot.Override(pod=of, action=action, since=since),)


def found(pods, policy=None, overrides=(), others=(), **state):
    """What becomes of the bindings to pod a when this is served in the place of pods a and b."""
    proxy = Proxy(fleet(web=(A, B), other=()))
    scope = proxy.table.scopes["shop/shop/web"]
    endpoint = next(one for one in proxy.table.endpoints() if one.pod == "a")
    served = (
        route(rule(persistence=policy or persistence(drain_timeout=60.0)), overrides=overrides),
        route(rule(name="other", services=(("other", 1),)), name="other"),
    )
    proxy.apply(fleet(served, revision=2, web=pods, other=others))
    for name, value in state.items():
        setattr(endpoint, name, value)
    proxy.table.touch([endpoint], NOW)
    return end(scope, endpoint, 0, NOW)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (found((A, B)), None),
        (found((pod("a", EndpointState.NOT_READY), B)), None),
        (found((draining(NOW - 59), B)), None),
        (found((draining(NOW - 60), B)), GONE),
        (found((draining(NOW - 1, serving=False), B)), GONE),
        (found((draining(NOW - 60),)), None),
        (found((B,)), GONE),
        (found((B,), others=(A,)), End(inf, BindingReason.POLICY_CHANGED)),
        (found((A, B), overrides=order("Disable")), End(inf, BindingReason.POD_DISABLED)),
        (found((A, B), overrides=order("Disable", of="b")), None),
        (found((A, B), overrides=order("Drain")), None),
        (found((A, B), overrides=order("Release", 7.0)), End(7.0, BindingReason.RELEASED)),
        (found((A, B), persistence(bind_to="Cohort"), order("Release", 7.0)), None),
        (found((A, B), persistence(epoch=1)), End(inf, BindingReason.EPOCH_RAISED)),
        (found((A, B), unhealthy=True), End(inf, BindingReason.POD_UNHEALTHY)),
        (found((A,), unhealthy=True), None),
        (found((A, B), ejected_until=NOW + 9), None),
        (found((B,), snapshot.Persistence()), GONE),
        (found((A, B), snapshot.Persistence()), None),
    ],
    ids=[
        "serving",
        "not ready",
        "draining",
        "drain over",
        "draining, and serves no more",
        "drain over, and no other pod",
        "gone",
        "behind another route only",
        "disabled",
        "another disabled",
        "ordered to drain",
        "released",
        "released, of a cohort",
        "epoch raised",
        "unhealthy",
        "unhealthy, and no other pod",
        "ejected",
        "no sessions, and gone",
        "no sessions, and serving",
    ],
)
def test_the_end_of_bindings_to_an_endpoint(given, expected):
    assert given == expected
