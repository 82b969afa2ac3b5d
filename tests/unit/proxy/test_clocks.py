"""Timers are the fleet's: through restarts, and through proxies whose clocks differ by five seconds."""

import pytest
from tests.unit.proxy.fleets import NOW, Client, Proxy, fleet, persistence, pods, route, rule

from stickyroute_api.reasons import BindingReason

IDLE, ABSOLUTE = 100, 1000
GIVEN = fleet(
    [route(rule(persistence=persistence(idle_timeout=IDLE, absolute_timeout=ABSOLUTE)))],
    web=pods("web-1", "web-2", "web-3"),
)
SKEW = 5


@pytest.mark.parametrize("ahead", [-SKEW, 0, SKEW])
def test_a_session_in_use_lives_to_its_absolute_timer_through_both_and_no_longer(ahead):
    one, other = Proxy(GIVEN), Proxy(GIVEN, seed=2, now=NOW + ahead)
    client = Client()
    home = client.ask(one).endpoint.pod
    for turn in range(ABSOLUTE // 10 - 1):
        for proxy in (one, other):
            proxy.tick(10)
        decision = client.ask((other, one)[turn % 2])
        assert (decision.reason, decision.endpoint.pod) == (BindingReason.BOUND, home)
    for proxy in (one, other):
        proxy.tick(10 + SKEW)
    assert client.ask(other).reason is BindingReason.ABSOLUTE_TIMEOUT


@pytest.mark.parametrize("ahead", [-SKEW, 0, SKEW])
@pytest.mark.parametrize("first", [0, 1])
def test_an_idle_session_ends_within_the_clocks_difference(ahead, first):
    proxies = (Proxy(GIVEN), Proxy(GIVEN, seed=2, now=NOW + ahead))
    for away, lives in ((IDLE - SKEW, True), (IDLE * 1.1 + SKEW + 0.1, False)):
        client = Client()
        client.ask(proxies[first])
        client.ask(proxies[first])
        for proxy in proxies:
            proxy.tick(away)
        reason = client.ask(proxies[not first]).reason
        assert reason is (BindingReason.BOUND if lives else BindingReason.IDLE_TIMEOUT)


@pytest.mark.parametrize(("away", "reason"), [(99, "Bound"), (111, "IdleTimeout"), (1001, "AbsoluteTimeout")])
def test_a_proxy_that_was_restarted_says_the_same(away, reason):
    one = Proxy(GIVEN)
    client = Client()
    client.ask(one)
    client.ask(one)
    restarted = Proxy(GIVEN, seed=9, now=one.now + away)
    one.tick(away)
    assert one.ask(client.token).reason == restarted.ask(client.token).reason == reason
