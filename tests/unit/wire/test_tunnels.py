"""When tunnels end whose binding has ended."""

from math import inf
from random import Random
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from tests.unit.proxy.fleets import NOW, Proxy, fleet, persistence, pods, route, rule

from stickyroute_api.reasons import BindingReason
from stickyroute_api.snapshot import Override
from stickyroute_proxy.wire import tunnel
from stickyroute_proxy.wire.tunnel import Home
from stickyroute_proxy.wire.tunnels import SPREAD, Tunnels


class Tunnel:
    def __init__(self, home):
        self.home = home
        self.opened = self.begun = NOW
        self.reason = None
        self.ended = None

    def end(self, reason, now):
        self.reason, self.ended = reason, now

    def expire(self, _):
        pass


def test_those_of_one_cause_end_within_five_seconds_and_not_together():
    proxy = Proxy(fleet(web=pods("a", "b")))
    (endpoint, _) = proxy.find("a", "b")
    given = [Tunnel(Home(proxy.scope(), endpoint, 0, 0.0)) for _ in range(1000)]
    tunnels = Tunnels(Random(0))
    for one in given:
        tunnels.add(one)
    tunnels.order(NOW, 100.0)
    tunnels.end(200.0)
    assert not any(one.reason for one in given)
    proxy.apply(fleet(revision=2, web=pods("b")))
    steps = [1000 + step / 4 for step in range(-4, 40)]
    tunnels.order(NOW, 1000.0)
    for now in steps:
        tunnels.end(now)
        tunnels.order(NOW, now)  # once ordered, no end is put off
    assert {one.reason for one in given} == {BindingReason.POD_TERMINATED}
    ends = [one.ended for one in given]
    assert (min(ends), max(ends)) == (1000.25, 1000.0 + SPREAD)
    # In each quarter of a second a twentieth of them, but for chance.
    assert all(20 <= ends.count(now) <= 90 for now in steps if 1000 < now <= 1000 + SPREAD)


@pytest.mark.parametrize(
    ("since", "reason"),
    [
        (None, BindingReason.ABSOLUTE_TIMEOUT),
        (NOW - 60, BindingReason.ABSOLUTE_TIMEOUT),  # released before it was opened
        (NOW + 60, BindingReason.RELEASED),
    ],
)
def test_a_release_that_stands_does_not_put_off_the_absolute_timer(since, reason):
    orders = () if since is None else (Override(pod="a", action="Release", since=since),)
    timed = route(rule(persistence=persistence(absolute_timeout=3600.0)), overrides=orders)
    proxy = Proxy(fleet((timed,), web=pods("a", "b")))
    (endpoint, _) = proxy.find("a", "b")
    tunnels = Tunnels(Random(0))
    tunnels.add(one := Tunnel(Home(proxy.scope(), endpoint, 0, 0.0)))
    tunnels.order(NOW + 3600.0, 1000.0)
    tunnels.end(1000.0 + SPREAD)
    assert one.reason is reason


def test_what_is_opened_on_a_released_pod_stays_as_its_binding_does_whatever_clock_the_order_is_by():
    """Else clients of the only pod would come back every few seconds until that time."""
    released = route(overrides=(Override(pod="a", action="Release", since=NOW + 60),))
    proxy = Proxy(fleet((released,), web=pods("a")))
    (endpoint,) = proxy.find("a")
    plane, home = SimpleNamespace(clock=lambda: proxy.now), Home(proxy.scope(), endpoint, 0, 0.0)
    one = tunnel.Tunnel(plane, Mock(), Mock(), home, Mock(), begun=inf)
    (tunnels := Tunnels(Random(0))).add(one)
    tunnels.order(NOW + 1, 1000.0)
    assert not tunnels._ordered
