"""How many sessions each proxy may have moved: from pods above the mean, within the minute's budget."""

import pytest

from stickyroute_api.affinity import AffinityReport, EndpointSessions, ScopeReport
from stickyroute_api.leases import Leases
from stickyroute_api.shares import Lent
from stickyroute_operator.ledger import EndpointView, Ledger, ScopeView, Totals
from stickyroute_operator.rebalance import Moved, Rebalanced, heed, moves

SCOPE = "shop/route/web"


def rebalanced(per_minute=60, *groups):
    return {SCOPE: Rebalanced(per_minute, tuple(map(frozenset, groups or ("ab",))))}


def view(**counts):
    endpoints = tuple(EndpointView(name, name, "web", count, 0) for name, count in counts.items())
    return {SCOPE: ScopeView(Totals(), endpoints, (), 1.0)}


def ledger(started=1.0, **proxies):
    """By proxy and endpoint: active sessions, and those that were moved."""
    found = Ledger()
    for name, endpoints in proxies.items():
        rows = tuple(
            EndpointSessions(
                endpoint=key, pod=key, service="web", active=active, in_flight=0, rebalanced=count
            )
            for key, (active, count) in endpoints.items()
        )
        found = found.add(
            AffinityReport(
                proxy=name,
                started=started,
                epoch=1,
                revision=1,
                scopes={SCOPE: ScopeReport(endpoints=rows)},
            )
        )
    return found


def lent(found, seen, scopes, moved=None, sent=None):
    made = moves(scopes, {SCOPE: moved or Moved({})}, found, seen, lent=sent or {}, sequence=0)
    return {
        (name, endpoint): one.sessions
        for name, by_scope in made.items()
        for endpoint, one in by_scope[SCOPE].items()
    }


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": 10}, {"a": 5}),
        ({"a": 6, "b": 4}, {"a": 1, "b": 0}),
        ({"a": 5, "b": 4}, {"a": 0, "b": 0}),
        ({"a": 0, "b": 9}, {"a": 0, "b": 4}),
    ],
)
def test_what_is_above_the_mean_may_move_as_far_as_others_lack(counts, expected):
    found = ledger(p={name: (count, 0) for name, count in counts.items()})
    assert lent(found, view(**counts), rebalanced()) == {("p", name): one for name, one in expected.items()}


def test_backends_are_balanced_each_for_itself():
    found = ledger(p={"a": (10, 0), "b": (10, 0)})
    assert lent(found, view(a=10, b=10), rebalanced(60, "a", "bc")) == {("p", "a"): 0, ("p", "b"): 5}


def test_proxies_share_by_what_they_know_and_count_on_from_what_they_moved():
    found = ledger(p={"a": (30, 4)}, q={"a": (10, 0)})
    assert lent(found, view(a=40), rebalanced(8)) == {("p", "a"): 9, ("q", "a"): 3}


def test_the_minute_is_shared_by_all():
    before = heed(None, SCOPE, ledger(p={"a": (30, 4)}), 100.0)
    assert before.count == 0, "what came before is not known"
    after = heed(before, SCOPE, ledger(p={"a": (30, 9)}, q={"a": (30, 1)}), 110.0)
    assert after.count == 6
    found = ledger(p={"a": (30, 9)}, q={"a": (30, 1)})
    assert sum(lent(found, view(a=60), rebalanced(8), after).values()) == 10 + 2
    assert sum(lent(found, view(a=60), rebalanced(6), after).values()) == 10
    assert heed(after, SCOPE, found, 169.0).count == 6
    assert heed(after, SCOPE, found, 171.0).count == 0
    again = heed(after, SCOPE, ledger(2.0, p={"a": (30, 2)}), 120.0)
    assert again.count == 8, "another process of the name counts anew"


def test_what_one_may_still_move_is_not_given_to_others():
    found = ledger(p={"a": (1, 0)}, q={"a": (99, 0)})
    first = moves(
        rebalanced(6), {SCOPE: Moved({})}, ledger(p={"a": (1, 0)}), view(a=100), lent={}, sequence=0
    )
    sent = {"p": Lent().add_moves(Leases(fleet="f", epoch=1, sequence=1, moves=first["p"]))}
    assert lent(found, view(a=100), rebalanced(6), sent=sent) == {("p", "a"): 0, ("q", "a"): 0}
    assert lent(found, view(a=100), rebalanced(6)) == {("p", "a"): 0, ("q", "a"): 6}


def test_what_is_told_of_no_more_is_not_remembered():
    """Pods and proxies come and go for as long as the operator lives; a scope's are told of each time."""
    before = heed(None, SCOPE, ledger(p={"a": (30, 4)}, q={"a": (30, 1)}), 100.0)
    after = heed(before, SCOPE, ledger(p={"b": (30, 2)}), 110.0)
    assert (after.counts, after.count) == ({("p", 1.0, "b"): 2}, 2)
