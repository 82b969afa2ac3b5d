"""The sessions of workers that have ended."""

from tests.unit.proxy.fleets import fleet, persistence, pods, route, rule
from tests.unit.proxy.test_merge import SCOPE, merged, on, told

from stickyroute_proxy.affinity.report import ended
from stickyroute_proxy.survivors import MAX_ENDED, Survivors

SERVED = fleet((route(rule(persistence=persistence(idle_timeout=100.0))),), web=pods("a", "b"))


def left(survivors, now, *running, snapshot=SERVED):
    scopes = merged(*survivors.told(snapshot, now), *running).scopes
    return {one.pod: one.active for one in scopes[SCOPE].endpoints} if SCOPE in scopes else {}


def test_they_count_until_others_know_them_or_their_timer_is_over():
    last, survivors = told(on("a", {1, 2}, in_flight=5), on("b", {3}), new=3), Survivors()
    survivors.add(last, 1000.0)
    assert left(survivors, 1000.0) == {"a": 2, "b": 1}
    assert left(survivors, 1099.0, ended(last), told(on("a", {2, 4}))) == {"a": 3, "b": 1}
    (row, _) = merged(*survivors.told(SERVED, 1000.0)).scopes[SCOPE].endpoints
    assert row.in_flight == 0
    assert merged(ended(last), *survivors.told(SERVED, 1000.0)).scopes[SCOPE].new == 3
    assert left(survivors, 1100.0) == {}
    assert survivors.told(SERVED, 1000.0) == []


def test_those_of_a_pod_or_scope_that_is_gone_do_not():
    survivors = Survivors()
    survivors.add(told(on("a", {1}), on("b", {2})), 0.0)
    survivors.add(told(on("a", {3}), scope="shop/other/web"), 0.0)
    assert left(survivors, 1.0, snapshot=fleet(SERVED.routes.values(), 2, web=pods("b"))) == {"b": 1}
    assert [report.scopes.keys() - {SCOPE} for report in survivors.told(SERVED, 1.0)] == [set(), set()]


def test_so_many_workers_are_remembered():
    survivors = Survivors()
    for number in range(MAX_ENDED + 4):
        survivors.add(told(on("a", {number})), 0.0)
    assert left(survivors, 1.0) == {"a": MAX_ENDED}
