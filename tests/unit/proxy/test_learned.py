"""Bindings of values that the application gives out: sealed with them, followed alike by all proxies."""

import base64
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import NOW, Proxy, Request, fleet, pod, pods, route, rule

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Override, Persistence, SessionLimits, TokenKeys
from stickyroute_proxy.affinity.choose import choose, choose_bound
from stickyroute_proxy.affinity.mint import minted, sealer
from stickyroute_proxy.affinity.token import LENGTH, Binding

ENVELOPE = Persistence(type="AppCookie", name="ID", learn="Envelope", absolute_timeout=1000.0)
STORED = ENVELOPE.model_copy(update={"learn": "Store"})
OTHER_KEYS = TokenKeys(sealing=2, keys={2: base64.b64encode(b"o" * 32).decode()})
REFUSED = {BindingReason.NEW, BindingReason.INVALID_TOKEN, BindingReason.KEY_RETIRED}
WEB = pods("web-1", "web-2", "web-3")


def new_proxy(policy=ENVELOPE, web=WEB, seed=0, **fields):
    return Proxy(fleet([route(rule(persistence=policy))], web=web, **fields), seed=seed)


def wrapped(proxy, decision, value=b"v"):
    seal = sealer(proxy.rule(), decision, decision.endpoint, proxy.now, proxy.random)
    return seal(value) + b"~" + value


def ask(proxy, envelope=None):
    cookies = [] if envelope is None else [b"a=1; ID=" + envelope]
    return choose(proxy.rule(), Request(cookies=cookies), proxy.now, proxy.random)


def test_a_value_is_bound_to_the_pod_that_gave_it_out():
    proxy = new_proxy()
    begun = ask(proxy)
    envelope = wrapped(proxy, begun)
    for one in (proxy, new_proxy(seed=1)):
        decision = ask(one, envelope)
        assert (decision.reason, decision.endpoint.pod) == (BindingReason.BOUND, begun.endpoint.pod)
        assert decision.set_token is None


def test_an_envelope_that_says_the_same_is_given_out_again():
    proxy = new_proxy()
    envelope = wrapped(proxy, ask(proxy))
    decision = ask(proxy, envelope)
    assert wrapped(proxy, decision) == envelope
    fresh = wrapped(proxy, decision, b"w")
    assert fresh[:LENGTH] != envelope[:LENGTH]
    opened = [proxy.scope().keyring.open(one, b"shop/shop/web") for one in (envelope, fresh)]
    assert opened[0].session == opened[1].session
    assert opened[0].created == opened[1].created


def test_a_value_given_out_by_another_pod_is_that_pod_s():
    proxy = new_proxy()
    decision = ask(proxy)
    other = next(one for one in proxy.rule().members.values() if one is not decision.endpoint)
    held = decision.binding
    binding = minted(proxy.rule(), held, other, NOW + 5, proxy.random)
    assert (binding.endpoint, binding.session, binding.created) == (other.key, held.session, held.created)
    assert minted(proxy.rule(), held, decision.endpoint, NOW + 5, proxy.random) is held
    assert minted(proxy.rule(), None, other, NOW, proxy.random).endpoint == other.key


@given(st.binary(min_size=1, max_size=40).filter(lambda value: not set(value) & set(b';, \t"')))
def test_a_token_fits_no_other_value(value):
    proxy = new_proxy()
    envelope = wrapped(proxy, ask(proxy), value)
    other = envelope[: LENGTH + 1] + b"x" + envelope[LENGTH + 1 :]
    assert ask(proxy, other).reason is BindingReason.INVALID_TOKEN
    assert ask(proxy, envelope[:LENGTH]).reason is BindingReason.NEW
    assert ask(proxy, envelope).reason is BindingReason.BOUND


@given(st.integers(0, 8 * LENGTH - 1))
def test_no_flipped_bit_is_accepted(bit):
    proxy = new_proxy()
    envelope = bytearray(wrapped(proxy, ask(proxy)))
    envelope[bit // 8] ^= 1 << bit % 8
    assert ask(proxy, bytes(envelope)).reason in {
        BindingReason.NEW,
        BindingReason.INVALID_TOKEN,
        BindingReason.KEY_RETIRED,
    }


def test_proxies_agree_on_who_takes_over_and_each_tells_it_once():
    first, second = new_proxy(), new_proxy(seed=1)
    for number in range(50):
        begun = ask(first)
        envelope = wrapped(first, begun, b"%d" % number)
        rest = tuple(one for one in WEB if one.pod != begun.endpoint.pod)
        for proxy in (first, second):
            proxy.apply(fleet([route(rule(persistence=ENVELOPE))], revision=2 * number + 2, web=rest))
        decisions = [ask(proxy, envelope) for proxy in (first, second, first, second)]
        assert len({decision.endpoint.pod for decision in decisions}) == 1
        assert [decision.notice for decision in decisions] == [b"PodTerminated"] * 2 + [None] * 2
        for proxy in (first, second):
            proxy.apply(fleet([route(rule(persistence=ENVELOPE))], revision=2 * number + 3, web=WEB))
    assert first.scope().moved == second.scope().moved == 50


@pytest.mark.parametrize("policy", [ENVELOPE, STORED])
def test_a_session_whose_time_is_over_begins_where_all_proxies_say(policy):
    proxies = [new_proxy(policy, seed=seed) for seed in range(4)]
    for number in range(20):
        binding = Binding(b"%012d" % number, next(iter(proxies[0].rule().members)), NOW, NOW, NOW, 0, 0, 0)
        scope = proxies[0].scope()
        envelope = scope.keyring.seal_with(b"v", binding, scope.identity) + b"~v"
        places = set()
        for proxy in proxies:
            proxy.now = NOW + 1001
            if policy is STORED:
                decision = choose_bound(proxy.rule(), Request(), binding, proxy.now, proxy.random)
                assert decision.binding.created == proxy.now
            else:
                decision = ask(proxy, envelope)
            assert (decision.reason, decision.notice) == (BindingReason.ABSOLUTE_TIMEOUT, None)
            places.add(decision.endpoint.pod)
        assert len(places) == 1


def test_unknown_values_are_spread_and_move_no_more_than_they_must():
    proxy = new_proxy(STORED, pods(*(f"web-{n}" for n in range(10))))
    keys = [proxy.scope().key(b"%d" % number) for number in range(1000)]

    def places():
        found = (choose_bound(proxy.rule(), Request(), None, NOW, Random(1), key=key) for key in keys)
        return [decision.endpoint.pod for decision in found]

    before = places()
    assert min(before.count(pod) for pod in set(before)) > 50
    proxy.apply(
        fleet([route(rule(persistence=STORED))], revision=2, web=pods(*(f"web-{n}" for n in range(9))))
    )
    for old, new in zip(before, places(), strict=True):
        assert old in {new, "web-9"}


def test_a_fresh_key_does_not_make_bound_envelopes_look_aged():
    proxy = new_proxy()
    envelope = wrapped(proxy, ask(proxy))
    decisions = [ask(proxy, envelope) for _ in range(3)]
    assert {decision.reason for decision in decisions} == {BindingReason.BOUND}
    assert all(one.token == other.token == envelope for one, other in pairwise(decisions))


@pytest.mark.parametrize("kind", ["stored", "envelope"])
def test_a_client_that_goes_on_showing_an_old_key_takes_one_place_of_a_limit(kind):
    limits = SessionLimits(sessions=5)
    policy = Persistence(type="AppCookie", name="ID", learn="Store", limits=limits)
    if kind == "envelope":
        policy = policy.model_copy(update={"learn": "Envelope", "absolute_timeout": 10.0})
    proxies = [Proxy(fleet((route(rule(persistence=policy)),), web=pods("a", "b", "c")), n) for n in range(2)]
    scope = proxies[0].scope()
    old = NOW - 100
    binding = Binding(b"s" * 12, scope.name(proxies[0].find("a")[0]), old, old, old, 0, 0, 1)
    shown = b"ID=" + scope.keyring.seal_with(b"v", binding, scope.identity) + b"~v"

    def ask(proxy):
        if kind == "stored":
            return choose_bound(proxy.rule(), Request(), None, proxy.now, proxy.random, key=b"k" * 16)
        return proxy.ask(cookies=[shown])

    # Neither the store nor its application says anything new of it.
    homes = {ask(proxy).endpoint.pod for _ in range(30) for proxy in proxies}
    assert len(homes) == 1
    for proxy in proxies:
        scope = proxy.scope()
        assert (scope.new, scope.rejected) == (1, 0)
        assert sum(map(scope.sessions.quota.placed, proxy.table.endpoints())) == 1
        proxy.tick(61)
        assert ask(proxy).endpoint.pod in homes


def test_a_client_that_goes_on_showing_an_old_envelope_has_ended_and_begun_once():
    proxy, scope = (made := new_proxy()), made.scope()
    envelope = wrapped(proxy, ask(proxy))
    for turn in (1, 2):
        proxy.now += 1000.0
        decisions = [ask(proxy, envelope) for _ in range(9)]
        assert {one.reason for one in decisions} == {BindingReason.ABSOLUTE_TIMEOUT}
        assert (scope.new, scope.ended) == (1 + turn, {BindingReason.ABSOLUTE_TIMEOUT: turn})
        envelope = wrapped(proxy, decisions[-1])  # at last the application gives its value out anew
    proxy.apply(fleet([route(rule(persistence=ENVELOPE))], 2, OTHER_KEYS, web=WEB))
    assert {ask(proxy, envelope).reason for _ in range(9)} == {BindingReason.KEY_RETIRED}
    assert scope.ended[BindingReason.KEY_RETIRED] == 1


def test_a_client_that_goes_on_showing_what_the_store_does_not_know_has_begun_once():
    proxy = new_proxy(STORED)
    for _ in range(9):
        choose_bound(proxy.rule(), Request(), None, proxy.now, proxy.random, key=b"k" * 16)
    assert proxy.scope().new == 1


def test_parallel_requests_of_a_stored_session_that_lost_its_pod_are_one_move():
    policy = Persistence(type="AppCookie", name="ID", learn="Store", limits=SessionLimits(sessions=9))
    served = route(rule(persistence=policy.model_copy(update={"idle_timeout": 600.0})))
    web = pods("a", "b", "c")
    proxy = Proxy(fleet((served,), web=web))
    scope = proxy.scope()
    home = scope.name(proxy.find("a")[0])
    binding = Binding(b"s" * 12, home, NOW - 100, NOW - 100, NOW - 1, 0, 0, 1)

    def ask(shown, count):
        made = [choose_bound(proxy.rule(), Request(), shown, proxy.now, proxy.random) for _ in range(count)]
        assert len({decision.endpoint.pod for decision in made}) == 1
        return made

    ask(binding, 2)
    proxy.apply(fleet((served,), 2, web=web[1:]))
    made = ask(binding, 6)  # before the first answer says where the session is from now on
    assert {decision.notice for decision in made} == {b"PodTerminated"}
    assert (scope.moved, sum(map(scope.sessions.quota.placed, proxy.table.endpoints()))) == (1, 1)
    (departed,) = scope.sessions.departures
    assert (departed.dropped, departed.moved) == (1, 1)
    # So it is with a container that began anew: each of them is told, and one session counts.
    (name,) = {decision.endpoint.pod for decision in made}
    bound = made[-1].binding._replace(key=1)
    started = [one.model_copy(update={"started": NOW + 1 if one.pod == name else 0.0}) for one in web[1:]]
    proxy.tick(2)
    proxy.apply(fleet((served,), 3, web=tuple(started)))
    ask(bound, 6)
    assert scope.restarted == 1


def test_each_raised_epoch_is_told_once_though_the_client_shows_its_old_envelope_on():
    web = pods("web-1")
    proxy = new_proxy(web=web)
    envelope = wrapped(proxy, ask(proxy))
    for epoch in (1, 2):
        raised = ENVELOPE.model_copy(update={"epoch": epoch})
        proxy.apply(fleet([route(rule(persistence=raised))], web=web, revision=epoch + 1))
        decisions = [ask(proxy, envelope) for _ in range(3)]
        assert [one.reason for one in decisions] == [
            BindingReason.EPOCH_RAISED,
            BindingReason.BOUND,
            BindingReason.BOUND,
        ]


def follow_orders(web, *orders, policy=ENVELOPE, envelope=None, proxy=None):
    """What three requests with one old envelope get under each order in turn: reasons and pods."""
    proxy = proxy or new_proxy(policy, web)
    envelope = envelope or wrapped(proxy, ask(proxy))
    found = []
    for revision, (overrides, served) in enumerate(orders, proxy.table.version.revision + 1):
        proxy.tick(10)
        proxy.apply(
            fleet([route(rule(persistence=policy), overrides=overrides)], web=served, revision=revision)
        )
        decisions = [ask(proxy, envelope) for _ in range(3)]
        assert len({one.endpoint.pod for one in decisions}) == 1
        found.append((decisions[0].endpoint.pod, [one.reason.value for one in decisions]))
    return proxy, found


def release(pod, since):
    return Override(pod=pod, action="Release", since=since)


TOLD_ONCE = ["Released", "Bound", "Bound"]
KEPT = ["Bound"] * 3


def test_each_release_is_told_once_where_there_is_no_other_pod():
    web = pods("web-1")
    orders = (((release("web-1", NOW + since),), web) for since in (5, 15, 15, 25))
    proxy, found = follow_orders(web, *orders)
    assert [reasons for _, reasons in found] == [TOLD_ONCE, TOLD_ONCE, KEPT, TOLD_ONCE]
    assert proxy.scope().moved == 3


def begun_on_one_of_two():
    """Both pods, the proxy, an envelope of its, the pod that it names, and the other."""
    web = pods("web-1", "web-2")
    proxy = new_proxy(web=web)
    begun = ask(proxy)
    home = begun.endpoint.pod
    (other,) = {"web-1", "web-2"} - {home}
    return web, proxy, wrapped(proxy, begun), home, other


def test_a_release_is_told_again_when_the_old_envelope_had_led_home_between():
    web, proxy, envelope, home, other = begun_on_one_of_two()
    orders = ((release(home, NOW + 5),), web), ((), web), ((release(home, NOW + 25),), web)
    proxy, found = follow_orders(web, *orders, proxy=proxy, envelope=envelope)
    assert found == [(other, TOLD_ONCE), (home, KEPT), (other, TOLD_ONCE)]
    assert proxy.scope().moved == 2


def test_a_pod_that_is_lost_again_is_told_again_when_the_old_envelope_had_led_home_between():
    web, proxy, envelope, home, other = begun_on_one_of_two()
    away = tuple(pod(one.pod, EndpointState.NOT_READY) if one.pod == home else one for one in web)
    orders = ((), away), ((), web), ((), away)
    proxy, found = follow_orders(web, *orders, proxy=proxy, envelope=envelope)
    lost = ["PodNotReady", "Bound", "Bound"]
    assert found == [(other, lost), (home, KEPT), (other, lost)]
    assert proxy.scope().moved == 2
    # It is known where it is, and nowhere else.
    assert [proxy.scope().sessions.at(proxy.find(name)[0]) for name in (home, other)] == [0, 1]


def test_a_release_reaches_those_whose_envelope_names_a_pod_that_has_gone():
    proxy = new_proxy()
    begun = ask(proxy)
    rest = tuple(one for one in WEB if one.pod != begun.endpoint.pod)
    envelope = wrapped(proxy, begun)
    proxy, ((host, reasons),) = follow_orders(WEB, ((), rest), proxy=proxy, envelope=envelope)
    assert reasons == ["PodTerminated", "Bound", "Bound"]
    orders = (((release(host, NOW + 15),), rest),)
    proxy, ((heir, reasons),) = follow_orders(WEB, *orders, proxy=proxy, envelope=envelope)
    assert heir != host
    assert reasons == ["PodTerminated", "Bound", "Bound"]
    # A proxy that knows nothing of all that says the same.
    _, ((same, _),) = follow_orders(rest, *orders, proxy=new_proxy(web=rest, seed=7), envelope=envelope)
    assert same == heir
