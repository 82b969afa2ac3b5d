"""What a process remembers of learned keys stays within its bounds, and never loses what is in use."""

import tracemalloc
from collections import Counter
from functools import partial
from math import inf
from random import Random
from types import SimpleNamespace

import pytest
from tests.unit.proxy.fleets import NOW, Proxy, fleet, pods, route, rule

from stickyroute_api.settings import Store
from stickyroute_api.snapshot import Persistence
from stickyroute_proxy.affinity.scope import UNTIMED
from stickyroute_proxy.affinity.token import LONG_LIVED, Binding
from stickyroute_proxy.store import link, memory
from stickyroute_proxy.store.link import Entry, Link, Lookup
from stickyroute_proxy.store.memory import Memory
from stickyroute_proxy.wire.counters import Counters

STORED = Persistence(type="AppCookie", name="ID", learn="Store", idle_timeout=100.0, absolute_timeout=1000.0)


@pytest.fixture
def proxy():
    return Proxy(fleet([route(rule(persistence=STORED))], web=pods("web-1", "web-2")))


def bound(proxy, number=0, **fields):
    endpoint = next(iter(proxy.rule().members))
    given = {"created": NOW, "bound": NOW, "sealed": NOW, "epoch": 0, "flags": 0, "key": 0} | fields
    return Binding(number.to_bytes(12), endpoint, **given)


def new_memory():
    return Memory(lambda: NOW, Random(0), Counters())


def told(keeper, proxy, value):
    answers = []
    keeper.recall(proxy.rule(), [value], lambda *answer: answers.append(answer))
    ((_, binding, result),) = answers
    return binding, str(result)


def test_a_flood_takes_bounded_memory_and_leaves_what_is_in_use(proxy, monkeypatch):
    monkeypatch.setattr(memory, "MAX_KNOWN", 2_000)
    keeper, scope = new_memory(), proxy.scope()
    keeper.keep(scope, scope.key(b"mine"), bound(proxy))
    tracemalloc.start()
    for number in range(40_000):
        keeper.keep(scope, scope.key(b"%d" % number), bound(proxy, number))
        if number % 500 == 0:
            assert told(keeper, proxy, b"mine") == (bound(proxy), "local")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(keeper._known) == 2_000
    # As many as are known at most take 40 MB.
    assert held / 2_000 < 800
    assert told(keeper, proxy, b"0") == (None, "error")
    assert told(keeper, proxy, b"39999")[1] == "local"


def test_values_of_other_scopes_are_other_keys(proxy):
    other = Proxy(fleet([route(rule(persistence=STORED), name="blog")], web=pods("web-1")))
    keys = {proxy.scope().key(b"v"), other.scope("shop/blog/web").key(b"v"), proxy.scope().key(b"w")}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("fields", "policy", "seconds"),
    [
        ({}, {}, 110),
        ({"created": NOW - 950}, {}, 50),
        ({"flags": LONG_LIVED}, {}, 1000),
        ({}, {"absolute_timeout": None}, 110),
        ({"flags": LONG_LIVED}, {"absolute_timeout": None}, UNTIMED),
        ({}, {"absolute_timeout": None, "idle_timeout": None}, UNTIMED),
        ({}, {"absolute_timeout": None, "idle_timeout": 30 * 86400.0}, 33 * 86400),
    ],
)
def test_an_entry_lives_as_long_as_its_binding_could_hold(fields, policy, seconds):
    proxy = Proxy(
        fleet([route(rule(persistence=STORED.model_copy(update=policy)))], web=pods("web-1", "web-2"))
    )
    assert memory._until(proxy.scope(), bound(proxy, **fields)) == pytest.approx(NOW + seconds)


class Loop:
    """A loop whose time passes when it is told to."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def call_later(self, delay, call, *arguments):
        handle = SimpleNamespace(when=self.now + delay, call=lambda: call(*arguments), over=False)
        handle.cancel = partial(setattr, handle, "over", True)
        self.timers.append(handle)
        return handle

    def sleep(self, seconds):
        end = self.now + seconds
        while due := [one for one in self.timers if one.when <= end and not one.over]:
            first = min(due, key=lambda one: one.when)
            self.now, first.over = first.when, True
            first.call()
        self.now = end
        self.timers = [one for one in self.timers if not one.over]


@pytest.mark.parametrize(
    ("behind", "fails", "expected"),
    [
        (inf, False, {"late": 5_000}),
        (60, False, {"late": 5_000}),
        (60, True, {"late": 5_000}),
        (10, False, {"miss": 4_991, "late": 9}),
        (10, True, {"error": 4_991, "late": 9}),
    ],
    ids=["no answer", "after 180 ms", "fails after 180 ms", "after 30 ms", "fails after 30 ms"],
)
def test_no_request_waits_more_than_50_ms_for_the_store(proxy, behind, fails, expected):
    keeper, loop, lookups = new_memory(), Loop(), []
    keeper._loop, keeper._link = loop, SimpleNamespace(find=lookups.append)
    waits, results = [], Counter()
    for number in range(5_000):
        asked = loop.now

        def tell(_key, _binding, result, asked=asked):
            waits.append(loop.now - asked)
            results[str(result)] += 1

        keeper.recall(proxy.rule(), [b"%d" % number], tell)
        loop.sleep(0.003)
        if len(lookups) >= behind:
            asker = lookups.pop(0).asker
            asker.failed() if fails else asker.found([None])
    loop.sleep(1)
    assert len(waits) == 5_000
    assert max(waits) <= 0.05 + 1e-9
    assert results == expected
    assert not loop.timers


class Asker:
    def __init__(self):
        self.answers = []

    def found(self, values):
        self.answers.append(values)

    def failed(self):
        self.answers.append(None)


def new_link():
    counters = Counters()
    return Link(Store(address="127.0.0.1:1"), lambda: NOW, Random(0), counters, lambda: None), counters


def test_look_ups_that_wait_are_bounded_and_told_when_the_link_closes(monkeypatch):
    monkeypatch.setattr(link, "MAX_LOOKUPS", 3)
    one, _ = new_link()
    askers = [Asker() for _ in range(5)]
    for asker in askers:
        one.find(Lookup((b"k",), asker))
    assert [asker.answers for asker in askers] == [[], [], [], [None], [None]]
    one.close()
    assert all(asker.answers == [None] for asker in askers)


def test_entries_that_wait_are_bounded_and_the_newest_stay(monkeypatch):
    monkeypatch.setattr(link, "MAX_ENTRIES", 3)
    one, counters = new_link()
    for number in (1, 2, 3, 3, 4, 5):
        one.keep(b"%d" % number, Entry(b"x", NOW, is_new=False))
    assert list(one._entries) == [b"3", b"4", b"5"]
    assert counters.store_dropped == 2


def test_a_store_s_settings_tell_no_password():
    assert "hunter2" not in repr(Store(address="a:1", password="hunter2"))
