import json
import os
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import KEYS, Client, Proxy, Request, fleet, persistence, pod, pods, route, rule

from stickyroute_api.reasons import BindingReason
from stickyroute_api.snapshot import Balancing, HashOn
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.keys import reader
from stickyroute_proxy.affinity.rendezvous import Rendezvous
from stickyroute_proxy.affinity.retry import rechoose, sidestep

NUMBERS = [int.from_bytes(blake2b(b"%d" % n, digest_size=8).digest(), "big") for n in range(100_000)]
ENDPOINTS = tuple(Endpoint(pod(f"web-{number}"), "web") for number in range(101))


def seeded(number):
    return ENDPOINTS[number].seed ^ 2


def one(endpoints):
    return Rendezvous([(1, 1, tuple(endpoints))])


def test_keys_are_spread_over_a_hundred_endpoints_as_evenly_as_chance_does():
    """Equal shares of 100,000 values have a peak of 1.08 times the mean: no placement by value has less."""
    peaks = []
    for fleet_of in range(9):
        pods_of = [Endpoint(pod(f"web-{fleet_of}-{number}"), "web") for number in range(100)]
        homes = Counter(map(one(pods_of).highest, NUMBERS))
        assert len(homes) == 100
        peaks.append(max(homes.values()) / 1000)
    assert 1.06 <= median(peaks) <= 1.095
    assert max(peaks) <= 1.15  # six standard deviations hold 1.19


def test_one_endpoint_less_or_more_moves_its_share_and_spreads_it():
    few, many = one(ENDPOINTS[:100]), one(ENDPOINTS)
    moved = Counter()
    for number in NUMBERS:
        before, after = few.highest(number), many.highest(number)
        if before is not after:
            assert after is ENDPOINTS[100]
            moved[before] += 1
    assert 0.005 <= sum(moved.values()) / len(NUMBERS) <= 0.015
    assert max(moved.values()) / sum(moved.values()) <= 0.05


groups = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4)


def of(shapes):
    """Groups of (weight, how many endpoints)."""
    found, taken = [], 0
    for at, (weight, count) in enumerate(shapes):
        found.append((seeded(at), weight, ENDPOINTS[taken : taken + count]))
        taken += count
    return found


@given(groups, st.integers(0, 2**64 - 1), st.data())
def test_without_one_only_its_numbers_choose_differently_and_order_is_nothing(shapes, number, data):
    given = of(shapes)
    chosen = Rendezvous(given).highest(number)
    turned = [(seed, weight, endpoints[::-1]) for seed, weight, endpoints in reversed(given)]
    if number:
        assert Rendezvous(turned).highest(number) is chosen
    removed = data.draw(st.sampled_from([endpoint for _, _, endpoints in given for endpoint in endpoints]))
    left = [
        (seed, weight, rest)
        for seed, weight, endpoints in given
        if (rest := tuple(endpoint for endpoint in endpoints if endpoint is not removed))
    ]
    if left and chosen is not removed:
        assert Rendezvous(left).highest(number) is chosen


@given(groups, st.integers(0, 2**64 - 1), st.data())
def test_a_raised_weight_only_draws(shapes, number, data):
    given = of(shapes)
    at = data.draw(st.integers(0, len(given) - 1))
    seed, weight, endpoints = given[at]
    chosen = Rendezvous(given).highest(number)
    after = Rendezvous([*given[:at], (seed, weight + 1, endpoints), *given[at + 1 :]]).highest(number)
    assert after is chosen or after in endpoints


def test_weights_share_out_numbers():
    given = [(seeded(at), weight, (ENDPOINTS[at],)) for at, weight in enumerate((1, 2, 5, 0.5))]
    homes = Counter(map(Rendezvous(given).highest, NUMBERS))
    shares = [homes[ENDPOINTS[at]] / len(NUMBERS) * 8.5 for at in range(4)]
    assert shares == pytest.approx([1, 2, 5, 0.5], rel=0.05)


@pytest.mark.parametrize(
    ("hash_on", "request_", "value"),
    [
        (HashOn(type="SourceIP"), Request(address="192.0.2.7"), bytes((192, 0, 2, 7))),
        (HashOn(type="SourceIP"), Request(address="2001:db8:1:2:3:4:5:6"), bytes.fromhex("20010db800010002")),
        (HashOn(type="SourceIP"), Request(address=""), b""),
        (HashOn(type="Header", name="X-User"), Request(headers={b"x-user": b"ann"}), b"ann"),
        (HashOn(type="Header", name="X-User"), Request(), b""),
        (HashOn(type="QueryParam", name="room"), Request(query=b"a=1&room=a%20b&room=2"), b"a b"),
        (HashOn(type="QueryParam", name="room"), Request(query=b"Room=1"), b""),
        (HashOn(type="Cookie", name="id"), Request(cookies=[b"a=1; id=7; b=2", b"id=8"]), b"7"),
        (HashOn(type="Cookie", name="id"), Request(cookies=[b"xid=7"]), b""),
    ],
)
def test_the_hashed_value(hash_on, request_, value):
    assert reader(hash_on)(request_) == value


def hashed(*names, hash_on=HashOn(type="Header", name="X-User"), **given):  # noqa: B008 - frozen
    rules = rule(
        balancing=Balancing(algorithm="Hash", hash_on=hash_on),
        persistence=given.pop("persistence", persistence(type="None", cookie=None)),
    )
    return fleet([route(rules)], web=pods(*names), **given)


def home(proxy, user):
    return proxy.ask(headers={b"x-user": b"%d" % user}).endpoint.pod


def test_without_persistence_every_request_goes_by_its_value():
    proxy = Proxy(hashed(*"abcd"))
    homes = {user: home(proxy, user) for user in range(200)}
    assert set(homes.values()) == set("abcd")
    proxy.apply(hashed(*"abd", revision=2))
    for user, before in homes.items():
        assert home(proxy, user) == before or before == "c"


def test_requests_without_the_value_are_spread():
    proxy = Proxy(hashed(*"abcd"))
    homes = Counter(proxy.ask().endpoint.pod for _ in range(4000))
    assert list(homes.values()) == pytest.approx([1000] * 4, rel=0.15)


def test_with_cookies_the_value_places_new_sessions_only():
    proxy = Proxy(hashed(*"abcd", persistence=persistence()))
    client = Client()
    first = client.ask(proxy, headers={b"x-user": b"1"})
    assert first.endpoint.pod == home(proxy, 1)
    other = next(user for user in range(2, 99) if home(proxy, user) != first.endpoint.pod)
    again = client.ask(proxy, headers={b"x-user": b"%d" % other})
    assert (again.endpoint, again.reason) == (first.endpoint, BindingReason.BOUND)


def test_a_refused_value_goes_where_it_would_without_that_pod():
    proxy, without = Proxy(hashed(*"abcd")), {name: Proxy(hashed(*set("abcd") - {name})) for name in "abcd"}
    for user in range(100):
        request = Request(headers={b"x-user": b"%d" % user})
        failed = proxy.ask(headers=request.headers)
        second = rechoose(proxy.rule(), request, failed, proxy.now, proxy.random, tried=())
        assert second.endpoint.pod == home(without[failed.endpoint.pod], user)


def test_a_session_whose_value_leads_to_a_full_pod_begins_where_it_would_without_that_pod():
    given = hashed(*"abcd", persistence=persistence())
    proxy, without = Proxy(given), {name: Proxy(hashed(*set("abcd") - {name})) for name in "abcd"}
    for user in range(100):
        request = Request(headers={b"x-user": b"%d" % user})
        full = proxy.ask(headers=request.headers)
        full.endpoint.in_flight = 1
        second = sidestep(proxy.rule(), request, full, 1, proxy.random, tried=())
        full.endpoint.in_flight = 0
        assert second.endpoint.pod == home(without[full.endpoint.pod], user)


def test_the_key_decides_and_a_new_sealing_key_does_not():
    keys = [KEYS.model_copy(update={"hashing": text * 43 + "="}) for text in "AQ"]
    plain, one, other = (Proxy(hashed(*"abcd", keys=given)) for given in (KEYS, *keys))
    homes = [[home(proxy, user) for user in range(100)] for proxy in (plain, one, other)]
    assert homes[0] == homes[1] != homes[2]  # the fixed key is of zeros
    rotated = keys[1].model_copy(update={"sealing": 2, "keys": {2: KEYS.keys[1], **KEYS.keys}})
    other.apply(hashed(*"abcd", keys=rotated, revision=2))
    assert [home(other, user) for user in range(100)] == homes[2]
    other.apply(hashed(*"abcd", keys=keys[0], revision=3))
    assert [home(other, user) for user in range(100)] == homes[1]


def test_a_hashing_key_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"keys\.hashing: not 32 bytes"):
        Proxy(hashed(*"ab", keys=KEYS.model_copy(update={"hashing": "AAAA"})))


CHILD = """
import json, sys
from stickyroute_api.snapshot import Snapshot
from tests.unit.proxy.fleets import Proxy
proxy = Proxy(Snapshot.model_validate_json(sys.stdin.read()), seed=int(sys.argv[1]), name=sys.argv[1])
homes = [proxy.ask(headers={b"x-user": b"%d" % user}).endpoint.pod for user in range(500)]
print(json.dumps(homes))
"""


def test_proxies_of_their_own_processes_agree_whatever_they_saw_before():
    given = hashed(*"abcdefgh", revision=3)
    ours = Proxy(hashed(*"hgx"))
    ours.apply(hashed(*"fbqadz", revision=2))
    ours.apply(given)
    homes = [home(ours, user) for user in range(500)]
    for seed in "12":
        child = subprocess.run(
            [sys.executable, "-c", CHILD, seed],
            input=given.model_dump_json(),
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(child.stdout) == homes
