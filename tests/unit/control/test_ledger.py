"""The merged view: each session once, totals that only grow, moves told once."""

import base64
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api.affinity import AffinityReport, Clash, Departure, EndpointSessions, ScopeReport
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_operator.ledger import MAX_ENDED, Finding, Ledger, merge

SCOPE = "shop/route/web"


def ids(*numbers):
    return base64.b64encode(b"".join(number.to_bytes(8, "big") for number in numbers)).decode()


def on(endpoint, *sessions, in_flight=0):
    return EndpointSessions(
        endpoint=endpoint,
        pod=f"pod-{endpoint}",
        service="web",
        active=len(sessions),
        in_flight=in_flight,
        ids=ids(*sessions),
    )


def left(endpoint, *sessions, time=100.0, reason=BindingReason.POD_TERMINATED, moved=0):
    return Departure(
        time=time,
        endpoint=endpoint,
        pod=f"pod-{endpoint}",
        reason=reason,
        dropped=len(sessions),
        moved=moved,
        ids=ids(*sessions),
    )


def report(proxy, *endpoints, started=1.0, departures=(), sample=1.0, **counts):
    return AffinityReport(
        proxy=proxy,
        started=started,
        epoch=1,
        revision=1,
        sample=sample,
        scopes={SCOPE: ScopeReport(endpoints=endpoints, departures=departures, **counts)},
    )


def view(*reports):
    ledger = Ledger()
    for one in reports:
        ledger = ledger.add(one)
    return merge(ledger)[SCOPE]


def active(found):
    return {endpoint.endpoint: endpoint.active for endpoint in found.endpoints}


def test_a_session_that_two_proxies_see_counts_once():
    found = view(
        report("a", on("x", 1, 2, 3, in_flight=2), on("y", 4)), report("b", on("x", 2, 3, 5, in_flight=1))
    )
    assert active(found) == {"x": 4, "y": 1}
    assert found.active == 5
    assert [endpoint.in_flight for endpoint in found.endpoints] == [3, 0]


def test_a_session_counts_where_it_went():
    """Proxy b saw it leave x for y; a has not heard from it since."""
    moved = left("x", 1, reason=BindingReason.CONNECT_FAILED, moved=1)
    found = view(report("a", on("x", 1)), report("b", on("y", 1), departures=[moved]))
    assert active(found) == {"x": 0, "y": 1}


def test_a_session_that_came_back_counts_where_it_is():
    there = left("x", 1, time=100, reason=BindingReason.CONNECT_FAILED, moved=1)
    back = left("y", 1, time=200, reason=BindingReason.CONNECT_FAILED, moved=1)
    found = view(report("a", on("x", 1), departures=[back, there]), report("b", on("y", 1)))
    assert active(found) == {"x": 1, "y": 0}


def test_without_a_word_of_leaving_the_choice_is_steady():
    one, other = report("a", on("x", 1)), report("b", on("y", 1))
    assert active(view(one, other)) == active(view(other, one)) == {"x": 1, "y": 0}


def test_a_departure_that_several_proxies_saw_is_one():
    found = view(
        report("a", departures=[left("x", 1, 2, 3, time=101, moved=2)]),
        report("b", departures=[left("x", 3, 4, time=100, moved=1)]),
    )
    (one,) = found.departures
    assert (one.endpoint, one.pod, one.reason) == ("x", "pod-x", BindingReason.POD_TERMINATED)
    assert (one.sessions, one.moved, one.time) == (4, 3, 100)


def test_a_cause_that_comes_again_is_another_departure():
    def failed(time, *sessions):
        return left("x", *sessions, time=time, reason=BindingReason.CONNECT_FAILED)

    found = view(
        report("a", departures=[failed(400, 3), failed(100, 1)]),
        report("b", departures=[failed(420, 3, 4), failed(130, 2)]),
    )
    assert [(one.time, one.sessions) for one in found.departures] == [(400, 2), (100, 2)]


def test_reasons_are_told_apart_and_the_newest_comes_first():
    found = view(
        report(
            "a", departures=[left("x", 1, time=5), left("y", 2, time=9, reason=BindingReason.POD_NOT_READY)]
        )
    )
    assert [(one.endpoint, one.time) for one in found.departures] == [("y", 9), ("x", 5)]


def test_totals_add_up_over_proxies_restarts_and_departures():
    ledger = Ledger()
    for one in (
        report("a", started=1, new=10, moved=1),
        report("b", started=1, new=5, expired=2, ended={"IdleTimeout": 2}),
        report("a", started=1, new=12, moved=1),
        report("a", started=2, new=3, rejected=4, ended={"IdleTimeout": 1}),
    ):
        ledger = ledger.add(one)
    totals = merge(ledger)[SCOPE].totals
    assert (totals.new, totals.moved, totals.expired, totals.rejected) == (20, 1, 2, 4)
    assert totals.ended == {"IdleTimeout": 3}
    assert merge(ledger.keep(["b"]))[SCOPE].totals == totals


def test_clashes_outlive_the_proxies_that_counted_them():
    ledger = Ledger()
    for started in range(MAX_ENDED + 3):
        clashes = {"cookie sid": Clash(times=2, last=100.0 - started)}
        ledger = ledger.add(report("a", started=started, clashes=clashes))
    expected = {"cookie sid": Clash(times=2 * (MAX_ENDED + 3), last=100.0)}
    assert merge(ledger)[SCOPE].totals.clashes == expected
    assert merge(ledger.keep([]))[SCOPE].totals.clashes == expected


def test_a_proxy_that_is_gone_leaves_its_departures_but_no_sessions():
    ledger = Ledger().add(report("a", on("y", 1), departures=[left("x", 1, 2)]))
    found = merge(ledger.keep([]))[SCOPE]
    assert active(found) == {"y": 0}
    assert [one.sessions for one in found.departures] == [2]


def test_a_proxy_that_was_only_out_of_sight_is_not_counted_twice():
    one = report("a", on("x", 1), started=1, new=7, departures=[left("y", 5)])
    found = merge(Ledger().add(one).keep([]).add(one))[SCOPE]
    assert (found.totals.new, active(found), len(found.departures)) == (7, {"x": 1}, 1)
    assert found.departures[0].sessions == 1


def test_many_ended_processes_keep_their_totals():
    ledger = Ledger()
    for number in range(3 * MAX_ENDED):
        departures = [left(f"e{number}", number)]
        ledger = ledger.add(report("a", started=float(number), new=1, departures=departures))
    assert len(ledger.ended) == MAX_ENDED
    assert merge(ledger)[SCOPE].totals.new == 3 * MAX_ENDED


def test_what_ended_processes_knew_of_a_scope_is_forgotten_with_it():
    """As the proxies do: a route that takes the name later begins with its own, and nothing piles up."""
    ledger, clashes = Ledger(), {"cookie sid": Clash(times=2, last=100.0)}
    for started in range(MAX_ENDED + 3):
        last = report("a", on("x", 1), started=started, new=1, clashes=clashes, departures=[left("x", 1)])
        ledger = ledger.add(last)
    ledger = ledger.keep([])
    assert ledger.forget(0.0, {SCOPE: 1.0}) is ledger
    forgotten = ledger.forget(0.0, {"shop/another/web": 1.0})
    assert SCOPE not in merge(forgotten)
    assert merge(forgotten.add(report("b", new=3)))[SCOPE] == view(report("b", new=3))


@pytest.mark.parametrize("share", [0.25, 0.125])
def test_a_sample_gives_an_estimate_and_says_so(share):
    """3,000 sessions on one pod; two proxies see 2,000 each."""
    random = Random(7)
    numbers = [random.getrandbits(64) for _ in range(3000)]

    def sampled(proxy, seen, sample):
        carried = [number for number in seen if number >> 56 < sample * 256]
        return report(proxy, on("x", *seen).model_copy(update={"ids": ids(*carried)}), sample=sample)

    found = view(sampled("a", numbers[:2000], share), sampled("b", numbers[1000:], 0.5))
    assert found.sample == share
    assert found.active == pytest.approx(3000, rel=0.1)


def test_without_overlap_a_sample_is_exact():
    a = on("x", *range(100)).model_copy(update={"ids": ids(1, 2, 3)})
    b = on("x", *range(50)).model_copy(update={"ids": ids(1 << 8)})
    assert view(report("a", a, sample=0.5), report("b", b, sample=0.5)).active == 150


def test_an_unreadable_list_of_ids_leaves_the_stated_number():
    assert view(report("a", on("x", 1, 2).model_copy(update={"ids": "%%%"}))).active == 2


places = st.dictionaries(st.sampled_from("xyz"), st.sets(st.integers(0, 20), max_size=12), max_size=3)


@given(st.lists(places, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_sum_is_the_number_of_different_sessions(proxies, random):
    reports = [
        report(f"p{number}", *(on(endpoint, *seen) for endpoint, seen in found.items()))
        for number, found in enumerate(proxies)
    ]
    merged = view(*reports)
    assert merged.active == len(set().union(*(seen for found in proxies for seen in found.values())))
    random.shuffle(reports)
    assert active(view(*reports)) == active(merged)


@pytest.mark.parametrize(
    ("states", "finding"),
    [
        ((None, None), None),
        (("AtLimit", None), ("AtLimit", 1)),
        (("AtLimit", "AtLimit"), ("AtLimit", 2)),
        (("Ejected", "AtLimit"), ("Ejected", 1)),
        (("Ejected", "Unhealthy"), ("Unhealthy", 1)),
        # A proxy has no word in what the snapshot says.
        (("Draining", None), None),
    ],
)
def test_the_worst_that_any_proxy_finds_is_told_with_how_many_do(states, finding):
    ledger = Ledger()
    for number, state in enumerate(states):
        seen = on("a", number).model_copy(update={"state": state and EndpointState(state)})
        ledger = ledger.add(report(f"proxy-{number}", seen))
    (endpoint,) = merge(ledger)[SCOPE].endpoints
    expected = finding and Finding(EndpointState(finding[0]), finding[1], len(states))
    assert endpoint.found == expected


def test_a_proxy_that_has_nothing_to_tell_of_a_scope_was_asked_too():
    """Else what one proxy cannot reach would seem to be out of reach for all."""
    seen = on("a").model_copy(update={"state": EndpointState.UNHEALTHY})
    idle = report("proxy-1").model_copy(update={"scopes": {}})
    (endpoint,) = view(report("proxy-0", seen), idle).endpoints
    assert endpoint.found == Finding(EndpointState.UNHEALTHY, 1, 2)


def test_counts_stay_right_over_restarts_of_proxies():
    """The sessions that made a request since: exact, however often a proxy began anew."""
    random = Random(7)
    ledger, started = Ledger(), dict.fromkeys("abc", 1.0)
    for turn in range(30):
        restarted = random.choice("abc")
        started[restarted] = 2.0 + turn
        at = {session: random.choice("xyz") for session in range(1000)}
        for name in "abc":
            mine = [session for session in at if random.random() < 0.7 or session % 3 == "abc".index(name)]
            reported = [on(pod, *(one for one in mine if at[one] == pod)) for pod in "xyz"]
            ledger = ledger.add(report(name, *reported, started=started[name]))
        view = merge(ledger)[SCOPE]
        assert view.active == 1000
        assert {one.endpoint: one.active for one in view.endpoints} == Counter(at.values())
