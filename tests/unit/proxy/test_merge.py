"""The workers' affinity reports as one proxy's."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import Proxy, fleet, pods, route, session_on

from stickyroute_api.affinity import AffinityReport, Clash, Departure, EndpointSessions, ScopeReport
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Override, Version
from stickyroute_operator import ledger
from stickyroute_proxy.affinity.report import MAX_BYTES, ended, merge, report
from stickyroute_proxy.slices import at_once

NOW = 10_000.0
SCOPE = "shop/shop/web"


def session(number):
    """The id of a session; the numbers below 256 spread over all first bytes."""
    return bytes([number % 256]) + number.to_bytes(7, "big")


def carried(numbers, sample=1.0):
    ids = (session(number) for number in sorted(numbers))
    return base64.b64encode(b"".join(one for one in ids if one[0] < sample * 256)).decode()


def on(pod, numbers, in_flight=0, sample=1.0):
    return EndpointSessions(
        endpoint=f"uid-{pod}",
        pod=pod,
        service="web",
        active=len(numbers),
        in_flight=in_flight,
        ids=carried(numbers, sample),
    )


def left(pod, numbers, time=NOW - 10, moved=0):
    return Departure(
        time=time,
        endpoint=f"uid-{pod}",
        pod=pod,
        reason=BindingReason.POD_TERMINATED,
        dropped=len(numbers),
        moved=moved,
        ids=carried(numbers),
    )


def told(*endpoints, departures=(), sample=1.0, scope=SCOPE, **counts):
    report = ScopeReport(endpoints=endpoints, departures=departures, **counts)
    return AffinityReport(
        proxy="proxy-0", started=1.0, epoch=1, revision=1, sample=sample, scopes={scope: report}
    )


def merged(*reports):
    return at_once(merge(reports, "proxy-0", 1.0, Version(3, 4), NOW))


def ids(text):
    content = base64.b64decode(text)
    return {content[start : start + 8] for start in range(0, len(content), 8)}


def test_counts_add_up():
    one = told(on("a", {1}, 2), new=3, moved=1, expired=4, rejected=5, ended={"IdleTimeout": 4})
    other = told(on("a", {2}, 1), on("b", {3}), new=10, ended={"IdleTimeout": 1, "KeyRetired": 2})
    found = merged(one, other)
    assert (found.proxy, found.started, found.epoch, found.revision) == ("proxy-0", 1.0, 3, 4)
    scope = found.scopes[SCOPE]
    assert (scope.new, scope.moved, scope.expired, scope.rejected) == (13, 1, 4, 5)
    assert scope.ended == {"IdleTimeout": 5, "KeyRetired": 2}
    assert {(one.pod, one.active, one.in_flight) for one in scope.endpoints} == {("a", 2, 3), ("b", 1, 0)}


def test_clashes_add_up_by_name_and_the_last_counts():
    one = told(clashes={"cookie a": Clash(times=2, last=5.0), "cookie b": Clash(times=1, last=1.0)})
    other = told(clashes={"cookie a": Clash(times=3, last=4.0)})
    expected = {"cookie a": Clash(times=5, last=5.0), "cookie b": Clash(times=1, last=1.0)}
    assert merged(one, other).scopes[SCOPE].clashes == expected
    assert merged(ended(one), ended(other)).scopes[SCOPE].clashes == expected


def test_a_session_of_two_workers_counts_once_on_its_endpoint():
    (endpoint,) = merged(told(on("a", {1, 2, 3})), told(on("a", {3, 4}))).scopes[SCOPE].endpoints
    assert endpoint.active == 4
    assert ids(endpoint.ids) == {session(number) for number in (1, 2, 3, 4)}


def test_a_worker_that_ended_leaves_counts_and_departures_but_no_sessions():
    last = told(on("a", {1, 2}, 7), departures=(left("b", {3}, moved=1),), new=2, moved=1)
    scope = merged(ended(last), told(on("a", {2}))).scopes[SCOPE]
    assert (scope.new, scope.moved) == (2, 1)
    assert [(one.pod, one.active, one.in_flight) for one in scope.endpoints] == [("a", 1, 0)]
    assert [(one.pod, one.dropped, one.moved) for one in scope.departures] == [("b", 1, 1)]


def test_departures_come_newest_first_until_they_are_old():
    found = merged(
        told(departures=(left("a", {1}, NOW - 5), left("a", {2}, NOW - 500))),
        told(departures=(left("b", {3}, NOW - 50), left("b", {4}, NOW - 5000))),
    )
    assert [departure.time for departure in found.scopes[SCOPE].departures] == [NOW - 5, NOW - 50, NOW - 500]


def test_the_smallest_sample_holds_for_all():
    many = set(range(256))
    found = merged(told(on("a", many)), told(on("a", many, sample=0.25), sample=0.25))
    (endpoint,) = found.scopes[SCOPE].endpoints
    assert found.sample == 0.25
    assert endpoint.active == 256, "stated numbers are scaled by what the sample shows to be doubly counted"
    assert ids(endpoint.ids) == {session(number) for number in range(64)}


def test_it_does_not_outgrow_a_report():
    reports = [told(on("a", range(start, start + 14000))) for start in (0, 14000)]
    found = merged(*reports)
    assert len(found.model_dump_json()) <= MAX_BYTES
    assert found.sample < 1
    assert found.scopes[SCOPE].endpoints[0].active == 28000


def test_nothing_merges_to_nothing():
    assert merged().scopes == {}


workers = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, 30), max_size=6), max_size=3),
    min_size=1,
    max_size=4,
)


@given(workers, st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.integers(0, 30))), max_size=3))
def test_the_operator_counts_one_merged_report_as_it_would_count_the_workers(places, departures):
    """Merging at the proxy hides nothing from the operator's own rules."""
    gone = tuple(left(pod, numbers, NOW - 10 * at) for at, (pod, numbers) in enumerate(departures))
    reports = [told(*(on(pod, numbers) for pod, numbers in one.items())) for one in places]
    reports[0] = told(*reports[0].scopes[SCOPE].endpoints, departures=gone)
    apart = ledger.Ledger()
    for number, told_last in enumerate(reports):
        apart = apart.add(told_last.model_copy(update={"proxy": f"worker-{number}"}))
    together = ledger.Ledger().add(merged(*reports))
    assert ledger.merge(together) == ledger.merge(apart)


def test_tunnels_of_all_workers_add_up():
    first, second = (on("a", [number]).model_copy(update={"tunnels": 2 + number}) for number in range(2))
    (found,) = merged(told(first), told(second)).scopes[SCOPE].endpoints
    assert found.tunnels == 5


@pytest.mark.parametrize(
    ("workers", "state"),
    [
        (((3, 3, "AtLimit"), (2, 3, None)), None),
        (((2, 3, None), (3, 3, "AtLimit")), None),
        (((3, 3, "AtLimit"), (3, 3, "AtLimit")), "AtLimit"),
        (((3, 3, "AtLimit"), (5, 5, None)), "AtLimit"),
        (((0, None, "AtLimit"), (0, None, None)), "AtLimit"),
        (((3, 3, "AtLimit"), (2, 3, "Ejected")), "Ejected"),
        (((2, 3, "Ejected"), (2, 3, "Unhealthy")), "Unhealthy"),
    ],
    ids=[
        "room at one",
        "room at one, the other way round",
        "no room",
        "no room where one has ended",
        "a limit of requests only",
        "the worst",
        "the worst, the other way round",
    ],
)
def test_a_pod_is_at_its_limit_where_no_worker_has_room_and_else_in_the_worst_state(workers, state):
    """Workers take turns with the last places: that one waits for its turn is no limit."""
    rows = [
        on("a", [number]).model_copy(
            update={"placed": placed, "ceiling": ceiling, "state": found and EndpointState(found)}
        )
        for number, (placed, ceiling, found) in enumerate(workers)
    ]
    (found,) = merged(*map(told, rows)).scopes[SCOPE].endpoints
    assert found.state == state


def test_a_session_that_another_proxy_moved_counts_where_it_has_been_since():
    """Departures are told for a quarter of an hour, and sessions are known for longer."""
    web, proxies = pods("a", "b"), [Proxy(fleet(web=pods("a", "b")), seed) for seed in range(2)]
    client = session_on("a", proxies[0])
    client.ask(proxies[1])
    order = Override(pod="a", action="Release", since=proxies[0].now + 1)
    for proxy in proxies:
        proxy.tick(2)
        proxy.apply(fleet([route(overrides=(order,))], 2, web=web))
    assert client.ask(proxies[0]).endpoint.pod == "b"
    for _ in range(100):
        for proxy in proxies:
            proxy.tick(10)
        client.ask(proxies[1])
    known = ledger.Ledger()
    for number, proxy in enumerate(proxies):
        known = known.add(at_once(report(proxy.table, f"proxy-{number}", 1.0, proxy.now)))
    view = ledger.merge(known)[SCOPE]
    assert {one.pod: one.active for one in view.endpoints if one.active} == {"b": 1}
