"""Timers, epochs, keys and several cookies: what ends a binding, and what renews it."""

import base64

import pytest
from tests.unit.proxy.fleets import KEYS, Client, Proxy, Request, fleet, persistence, pods, route, rule

from stickyroute_api.reasons import BindingReason
from stickyroute_api.snapshot import TokenKeys
from stickyroute_proxy.affinity.choose import MAX_FORGED, choose
from stickyroute_proxy.affinity.keys import MAX_PRESENTED
from stickyroute_proxy.affinity.retry import prolong, rechoose


def timed(revision=1, keys=KEYS, names=("web-1", "web-2"), **policy):
    return fleet([route(rule(persistence=persistence(**policy)))], revision, keys, web=pods(*names))


def opened(proxy, token):
    return proxy.scope().keyring.open(token, proxy.scope().identity)


def test_a_session_in_use_is_renewed_each_tenth_of_its_idle_timer():
    proxy = Proxy(timed(idle_timeout=100))
    client = Client()
    home = client.ask(proxy).endpoint
    renewals = 0
    for _ in range(300):
        proxy.tick(1)
        decision = client.ask(proxy)
        assert (decision.endpoint, decision.reason) == (home, BindingReason.BOUND)
        renewals += decision.set_token is not None
    assert renewals == 30
    assert opened(proxy, client.token).created == proxy.now - 300


@pytest.mark.parametrize(("away", "reason"), [(109, BindingReason.BOUND), (110, BindingReason.IDLE_TIMEOUT)])
def test_the_idle_timer(away, reason):
    proxy = Proxy(timed(idle_timeout=100))
    client = Client()
    client.ask(proxy)
    before = opened(proxy, client.token)
    proxy.tick(away)
    decision = client.ask(proxy)
    assert (decision.reason, decision.notice) == (reason, None)
    kept = opened(proxy, client.token).session == before.session
    assert kept is (reason is BindingReason.BOUND)
    assert proxy.scope().expired == (reason is not BindingReason.BOUND)


def test_the_absolute_timer_runs_over_renewals_moves_and_use():
    proxy = Proxy(timed(idle_timeout=50, absolute_timeout=100))
    client = Client()
    client.ask(proxy)
    for second in range(99):
        proxy.tick(1)
        if second == 50:
            lost = client.ask(proxy).endpoint.pod
            left = {"web-1", "web-2"} - {lost}
            proxy.apply(timed(2, names=left, idle_timeout=50, absolute_timeout=100))
        assert client.ask(proxy).reason in (BindingReason.BOUND, BindingReason.POD_TERMINATED)
    proxy.tick(1)
    decision = client.ask(proxy)
    assert (decision.reason, decision.notice) == (BindingReason.ABSOLUTE_TIMEOUT, None)
    assert client.ask(proxy).reason is BindingReason.BOUND


def test_without_timers_nothing_ends_or_renews():
    proxy = Proxy(timed())
    client = Client()
    client.ask(proxy)
    proxy.tick(10**8)
    decision = client.ask(proxy)
    assert (decision.reason, decision.set_token) == (BindingReason.BOUND, None)


@pytest.mark.parametrize(("ahead", "renewed"), [(5, False), (6, True), (3600, True)])
def test_a_token_from_the_future_is_good_and_soon_told_the_right_time(ahead, renewed):
    given = timed(idle_timeout=100, absolute_timeout=1000)
    fast, proxy = Proxy(given), Proxy(given)
    fast.now += ahead
    client = Client()
    home = client.ask(fast).endpoint.pod
    decision = client.ask(proxy)
    assert (decision.endpoint.pod, decision.reason) == (home, BindingReason.BOUND)
    assert (decision.set_token is not None) is renewed
    if renewed:
        assert opened(proxy, client.token).created == proxy.now


def test_a_raised_epoch_ends_every_binding_once_with_notice():
    proxy = Proxy(timed())
    client = Client()
    client.ask(proxy)
    client.ask(proxy)
    proxy.apply(timed(2, epoch=1))
    moved = client.ask(proxy)
    assert (moved.reason, moved.notice) == (BindingReason.EPOCH_RAISED, b"EpochRaised")
    assert client.ask(proxy).reason is BindingReason.BOUND
    assert proxy.scope().moved == 1
    # A proxy that has not yet heard of the new epoch keeps what a later one has bound.
    assert client.ask(Proxy(timed())).reason is BindingReason.BOUND


def test_rotation_renews_tokens_and_retirement_ends_them_silently():
    texts = {number: base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)}
    first = TokenKeys(sealing=1, keys={1: texts[1]})
    both = TokenKeys(sealing=2, keys=texts)
    last = TokenKeys(sealing=2, keys={2: texts[2]})
    proxy = Proxy(timed(keys=first))
    used, unused = Client(), Client()
    for client in (used, unused):
        client.ask(proxy)
        client.ask(proxy)
    proxy.apply(timed(2, keys=both))
    assert used.ask(proxy).set_token is not None
    proxy.apply(timed(3, keys=last))
    assert used.ask(proxy).reason is BindingReason.BOUND
    decision = unused.ask(proxy)
    assert (decision.reason, decision.notice) == (BindingReason.KEY_RETIRED, None)
    assert decision.set_token is not None


def ask_with(proxy, *tokens):
    request = Request(cookies=[b"; ".join(b"sr=" + token for token in tokens)])
    return choose(proxy.rule(), request, proxy.now, proxy.random)


def test_of_several_cookies_the_first_that_holds_decides():
    proxy = Proxy(timed(names=("web-1", "web-2", "web-3")))
    one, other = proxy.ask(), proxy.ask()
    assert one.endpoint is not other.endpoint
    assert ask_with(proxy, one.token, other.token).endpoint is one.endpoint
    assert ask_with(proxy, other.token, one.token).endpoint is other.endpoint
    garbage = ask_with(proxy, b"x", other.token)
    assert (garbage.endpoint, garbage.reason) == (other.endpoint, BindingReason.BOUND)
    assert ask_with(proxy, *[b"x"] * 8, other.token).reason is BindingReason.INVALID_TOKEN
    left = {"web-1", "web-2", "web-3"} - {one.endpoint.pod}
    proxy.apply(timed(2, names=sorted(left)))
    assert ask_with(proxy, one.token, other.token).endpoint.pod == other.endpoint.pod


def test_forged_tokens_are_tried_only_so_often():
    proxy = Proxy(timed())
    token = proxy.ask().token
    forged = token[:50] + (b"B" if token[50:51] == b"A" else b"A") + token[51:]
    assert ask_with(proxy, *[forged] * (MAX_FORGED - 1), token).reason is BindingReason.BOUND
    assert ask_with(proxy, *[forged] * MAX_FORGED, token).reason is BindingReason.INVALID_TOKEN
    # what has not a token's length costs nothing to refuse
    assert ask_with(proxy, *[b"x"] * (MAX_PRESENTED - 1), token).reason is BindingReason.BOUND


def test_what_is_known_of_a_second_cookie_does_not_change_the_choice():
    proxy = Proxy(timed(names=("web-1", "web-2", "web-3")))
    one, other = proxy.ask(), proxy.ask()
    proxy.ask(other.token)
    assert ask_with(proxy, one.token, other.token).endpoint is one.endpoint


def test_a_cookie_of_the_same_name_from_another_scope_is_nothing():
    routes = [
        route(rule(), name="one", hosts=("shop.example.com",)),
        route(rule(), name="two", hosts=("two.example.com",)),
    ]
    proxy = Proxy(fleet(routes, web=pods("web-1")))
    token = proxy.ask().token
    proxy.ask(token)
    request = Request(cookies=[b"sr=" + token])
    two = choose(proxy.rule(host=b"two.example.com"), request, proxy.now, proxy.random)
    assert two.reason is BindingReason.INVALID_TOKEN


def test_a_long_lived_token_waits_for_an_ordinary_answer():
    proxy = Proxy(timed(idle_timeout=100, absolute_timeout=10_000))
    client = Client()
    client.ask(proxy)
    client.token = prolong(proxy.rule(), client.ask(proxy), proxy.now)
    proxy.tick(500)
    decision = client.ask(proxy)
    assert decision.reason is BindingReason.BOUND
    assert decision.set_token is not None
    proxy.tick(500)
    assert client.ask(proxy).reason is BindingReason.IDLE_TIMEOUT


def test_nothing_to_prolong_without_a_binding():
    proxy = Proxy(timed(type="None", cookie=None))
    assert prolong(proxy.rule(), proxy.ask(), proxy.now) is None


def test_a_new_session_whose_pod_refuses_begins_elsewhere():
    proxy = Proxy(timed(names=("web-1", "web-2", "web-3")))
    tried, decision = set(), proxy.ask()
    session = opened(proxy, decision.token).session
    for _ in range(2):
        tried.add(decision.endpoint)
        decision = rechoose(proxy.rule(), Request(), decision, proxy.now, proxy.random, tried=tried)
        assert decision.endpoint not in tried
        assert (decision.reason, decision.notice) == (BindingReason.NEW, None)
        binding = opened(proxy, decision.set_token)
        assert (binding.session, binding.endpoint) == (session, decision.endpoint.key)
    tried.add(decision.endpoint)
    last = rechoose(proxy.rule(), Request(), decision, proxy.now, proxy.random, tried=tried)
    assert (last.endpoint, last.reason) == (None, BindingReason.NO_ENDPOINT)
    assert proxy.scope().new == 1
    assert proxy.table.known.count == 0


def test_a_moving_session_whose_next_pod_refuses_keeps_its_reason():
    proxy = Proxy(timed(names=("web-1", "web-2", "web-3", "web-4")))
    client = Client()
    home = client.ask(proxy).endpoint.pod
    proxy.apply(timed(2, names=sorted({"web-1", "web-2", "web-3", "web-4"} - {home})))
    first = client.ask(proxy)
    second = rechoose(proxy.rule(), Request(), first, proxy.now, proxy.random, tried={first.endpoint})
    assert second.endpoint is not first.endpoint
    assert (second.reason, second.notice) == (BindingReason.POD_TERMINATED, b"PodTerminated")
    assert proxy.scope().moved == 1
    assert proxy.ask(second.set_token).endpoint is second.endpoint


def test_an_unpinned_request_goes_elsewhere():
    proxy = Proxy(timed(type="None", cookie=None))
    first = proxy.ask()
    second = rechoose(proxy.rule(), Request(), first, proxy.now, proxy.random, tried=())
    assert second.endpoint is not first.endpoint
    assert (second.reason, second.set_token) == (BindingReason.UNPINNED, None)
