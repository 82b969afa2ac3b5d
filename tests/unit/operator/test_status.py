from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.operator.builders import endpoint, pieces, pod, route, rule, service, state

from stickyroute_api.affinity import Clash
from stickyroute_api.reasons import (
    BindingReason,
    ConditionReason,
    ConditionType,
    EndpointState,
    EventReason,
)
from stickyroute_api.snapshot import Version
from stickyroute_api.status import MAX_ENDPOINTS, MAX_MOVES
from stickyroute_operator import status
from stickyroute_operator.events import ended, ends, events
from stickyroute_operator.ledger import DepartureView, EndpointView, Finding, ScopeView, Totals
from stickyroute_operator.reconcile import Acked, Carried
from stickyroute_operator.status import Seen, build
from stickyroute_operator.translate import Verdict, translate

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
V1, V2 = Version(3, 1), Version(3, 2)


def verdict(*objects, **spec):
    defaults = (service(), pieces(endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2")))
    return translate(state(route(**spec), *(objects or defaults))).verdicts["default", "shop"]


def seen(*objects, acks=(V1, V1), scopes=(), carried=Carried(V1, V1), **spec):  # noqa: B008 - frozen
    proxies = tuple(Acked(f"proxy-{number}", True, ack) for number, ack in enumerate(acks))
    return Seen(verdict(*objects, **spec), carried, proxies, tuple(scopes), NOW.timestamp())


def view(*departures, endpoints=(), **totals):
    return ScopeView(Totals(**totals), tuple(endpoints), tuple(departures), 1.0)


def departure(pod="web-2", sessions=31, seconds=0.0, reason=BindingReason.POD_TERMINATED):
    return DepartureView(NOW.timestamp() + seconds, f"uid-{pod}", pod, reason, sessions, 0)


def conditions(built):
    return {str(one.type): (one.status, str(one.reason)) for one in built.conditions}


def message(built, kind):
    return status.find(built, kind).message


def test_all_is_well():
    built = build(seen(), None, NOW)
    assert conditions(built) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Programmed": ("True", "Programmed"),
        "Ready": ("True", "Ready"),
    }
    assert built.endpoints_ready == "2/2"
    assert (built.fleet.proxies, built.fleet.current, built.fleet.revision) == (2, 2, "3.1")
    assert built.hosts == "*"
    assert [one.pod for one in built.endpoints] == ["web-1", "web-2"]


@pytest.mark.parametrize(
    ("acks", "reason"),
    [
        ((), ConditionReason.NO_PROXIES),
        ((None,), ConditionReason.PENDING),
        ((V1, None), ConditionReason.PENDING),
        ((V1, Version(2, 99)), ConditionReason.PENDING),
        ((V1, V2), ConditionReason.PROGRAMMED),
    ],
)
def test_programmed_means_every_current_proxy(acks, reason):
    built = build(seen(acks=acks), None, NOW)
    condition = status.find(built, ConditionType.PROGRAMMED)
    assert condition.reason is reason
    assert (condition.status == "True") == (reason is ConditionReason.PROGRAMMED)
    assert status.find(built, ConditionType.READY).status == condition.status


@pytest.mark.parametrize(
    ("error", "refusal", "reason"),
    [
        (None, False, ConditionReason.PROGRAMMED),
        ("no answer in time", False, ConditionReason.PENDING),
        ("scope: taken", True, ConditionReason.INVALID),
    ],
)
def test_a_proxy_that_fails_to_take_the_routes_pods_is_behind(error, refusal, reason):
    late = Acked("proxy-1", True, V1, error, is_refusal=refusal)
    news = replace(seen(carried=Carried(V1, V2)), proxies=(Acked("proxy-0", True, V2), late))
    built = build(news, None, NOW)
    condition = status.find(built, ConditionType.PROGRAMMED)
    assert condition.reason is reason
    assert (error or "") in condition.message
    assert built.fleet.in_sync == "1/2"


def test_what_only_another_version_lets_in_still_fits_the_status():
    hosts = [f"h{number}.{'x' * 63}.example.com" for number in range(500)]
    built = build(seen(hosts=hosts, persistence={"type": "y" * 500}, tls=5), None, NOW)
    assert len(built.hosts) <= 8192
    assert len(built.persistence) <= 256
    assert conditions(built)["Accepted"] == ("False", "Invalid")


def test_a_proxy_that_is_not_ready_does_not_count():
    given = seen(acks=(V1,))
    given = replace(given, proxies=(*given.proxies, Acked("starting", False)))
    assert conditions(build(given, None, NOW))["Programmed"][0] == "True"


def test_a_refusal_names_the_proxy_and_its_words():
    given = replace(
        seen(), proxies=(Acked("proxy-0", True, V1), Acked("proxy-1", True, None, "no such", True))
    )
    built = build(given, None, NOW)
    assert conditions(built)["Programmed"] == ("False", "Invalid")
    assert "proxy-1 refused it: no such" in message(built, ConditionType.PROGRAMMED)
    assert [one.reason for one in events(build(seen(), None, NOW), built)] == [
        EventReason.PROXY_REJECTED_SNAPSHOT
    ]


def test_a_route_that_is_not_accepted_says_so_everywhere():
    given = seen(persistence={"type": "None", "failover": {"hold": "30s"}}, carried=None)
    built = build(given, None, NOW)
    assert conditions(built)["Accepted"] == ("False", "UnsupportedValue")
    assert conditions(built)["Programmed"] == ("False", "NotAccepted")
    assert conditions(built)["Ready"] == ("False", "NotAccepted")
    assert "failover.hold" in message(built, ConditionType.READY)
    assert (built.fleet, built.sessions) == (None, None)


@pytest.mark.parametrize(
    ("policy", "accepted"), [({}, True), ({"type": "None", "failover": {"hold": "30s"}}, False)]
)
def test_status_tells_the_generation_that_it_is_of(policy, accepted):
    old = build(seen(), None, NOW)
    objects = service(), pieces(endpoint("web-1", "10.0.0.1"))
    changed = replace(route(persistence=policy), generation=7)
    found = translate(state(changed, *objects)).verdicts["default", "shop"]
    built = build(replace(seen(), verdict=found), old, LATER)
    assert status.find(built, ConditionType.ACCEPTED).status == str(accepted)
    assert built.observed_generation == 7
    assert {one.observed_generation for one in built.conditions} == {7}


def test_no_ready_pod():
    objects = service(), pieces(endpoint("web-1", "10.0.0.1", ready=False))
    built = build(seen(*objects), None, NOW)
    assert conditions(built)["Ready"] == ("False", "NoEndpoints")
    assert built.endpoints_ready == "0/1"
    assert "web" in message(built, ConditionType.READY)
    assert [one.reason for one in events(build(seen(), None, NOW), built)] == [EventReason.NO_ENDPOINTS]


def test_a_missing_backend():
    built = build(seen(pieces()), None, NOW)
    assert conditions(built)["ResolvedRefs"] == ("False", "BackendNotFound")
    assert conditions(built)["Ready"] == ("False", "NoEndpoints")
    told = events(None, built)
    assert EventReason.BACKEND_NOT_FOUND in [one.reason for one in told]


def test_terminating_pods_are_not_counted_as_missing():
    objects = (
        service(),
        pieces(endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2", ready=False, terminating=True)),
    )
    assert build(seen(*objects), None, NOW).endpoints_ready == "1/1"


def test_times_change_only_with_what_they_date():
    first = build(seen(), None, NOW)
    again = build(seen(), first, LATER)
    assert again == first
    broken = build(seen(acks=(V1, None)), first, LATER)
    dates = {str(one.type): one.last_transition_time for one in broken.conditions}
    assert dates == {"Accepted": NOW, "ResolvedRefs": NOW, "Programmed": LATER, "Ready": LATER}
    objects = (
        service(),
        pieces(endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2", ready=False)),
    )
    moved = build(seen(*objects), first, LATER)
    assert [one.since for one in moved.endpoints] == [NOW, LATER]


def test_counts_are_added_over_scopes_and_found_by_endpoint():
    scopes = [
        view(endpoints=[EndpointView("uid-web-1", "web-1", "web", 4, 2)], new=5, moved=1),
        view(
            endpoints=[EndpointView("uid-web-1", "web-1", "web", 3, 0)],
            new=2,
            expired=1,
            rejected=3,
            restarted=6,
        ),
    ]
    built = build(seen(scopes=scopes), None, NOW)
    assert built.sessions.model_dump(exclude={"counted_since", "ended"}) == {
        "active": 7,
        "new": 7,
        "moved": 1,
        "expired": 1,
        "rejected": 3,
        "restarted": 6,
    }
    assert [(one.sessions, one.requests) for one in built.endpoints] == [(7, 2), (0, 0)]


IDLE, KEY = BindingReason.IDLE_TIMEOUT, BindingReason.KEY_RETIRED


def test_ends_without_a_pod_are_counted_by_reason_and_an_event_tells_of_them():
    first = build(seen(), None, NOW)
    two = build(seen(scopes=[view(ended={IDLE: 2}), view(ended={IDLE: 1, KEY: 1})]), first, LATER)
    assert [(one.reason, one.sessions) for one in two.sessions.ended] == [(IDLE, 3), (KEY, 1)]
    assert not status.is_urgent(first, two)
    fresh = ends(two.sessions)
    assert ended(fresh).message == "3 sessions ended: IdleTimeout; 1 session ended: KeyRetired"
    assert (ended(fresh).type, ended(fresh).times) == ("Normal", 1)
    assert ends(None) == {}
    # Two sums alone do not say that: another operator's may be of other proxies.
    assert events(first, two) == events(two, first) == ()


def test_numbers_alone_are_not_urgent():
    first = build(seen(), None, NOW)
    scopes = [view(endpoints=[EndpointView("uid-web-1", "web-1", "web", 4, 2)], new=5)]
    counted = build(seen(scopes=scopes), first, LATER)
    assert counted != first
    assert not status.is_urgent(first, counted)
    assert status.is_urgent(None, first)
    assert status.is_urgent(first, build(seen(acks=(V1, None)), first, LATER))
    assert status.is_urgent(first, build(seen(scopes=[view(departure())]), first, LATER))


def test_the_newest_moves_stay_over_a_restart():
    first = build(seen(scopes=[view(departure("web-1", 3), departure("web-2", 31, 60))]), None, NOW)
    assert [(one.pod, one.sessions) for one in first.last_moves] == [("web-2", 31), ("web-1", 3)]
    after = build(seen(scopes=[view(departure("web-2", 40, 60.5))]), first, LATER)
    assert [(one.pod, one.sessions) for one in after.last_moves] == [("web-2", 40), ("web-1", 3)]
    many = [departure(f"web-{number}", 1, number * 100) for number in range(30)]
    assert len(build(seen(scopes=[view(*many)]), after, LATER).last_moves) == MAX_MOVES


def test_a_departure_without_sessions_is_no_move():
    assert build(seen(scopes=[view(departure(sessions=0))]), None, NOW).last_moves == ()


def test_the_cap_on_endpoints_is_said():
    many = pieces(
        *(endpoint(f"web-{n:03}", f"10.0.{n // 250}.{n % 250 + 1}") for n in range(MAX_ENDPOINTS + 7))
    )
    built = build(seen(service(), many), None, NOW)
    assert len(built.endpoints) == MAX_ENDPOINTS
    assert built.endpoints_omitted == 7
    assert built.endpoints_ready == "107/107"


def test_what_is_written_is_read_again():
    built = build(seen(scopes=[view(departure())]), None, NOW)
    assert status.read(status.write(built)) == built
    assert status.read(None) is None
    assert status.read({"conditions": "?"}) is None


def test_events_of_a_life():
    pending = build(seen(acks=(None,)), None, NOW)
    assert events(None, pending) == ()
    programmed = build(seen(), pending, NOW)
    assert [(one.reason, one.type) for one in events(pending, programmed)] == [
        (EventReason.PROGRAMMED, "Normal")
    ]
    assert events(programmed, programmed) == ()
    moved = build(seen(scopes=[view(departure("web-2", 30))]), programmed, LATER)
    assert [(one.message, one.times) for one in events(programmed, moved)] == [
        ("30 sessions left web-2: PodTerminated", 1)
    ]
    grown = build(seen(scopes=[view(departure("web-2", 31))]), moved, LATER)
    assert [(one.message, one.times) for one in events(moved, grown)] == [
        ("31 sessions left web-2: PodTerminated", 0)
    ]
    assert events(grown, moved) == ()
    more = [departure("web-1", 1, 200), departure("web-3", 2, 201), departure("web-2", 31)]
    several = build(seen(scopes=[view(*more)]), grown, LATER)
    assert [(one.message, one.times) for one in events(grown, several)] == [
        ("2 sessions left web-3: PodTerminated; 1 session left web-1: PodTerminated", 2)
    ]


def test_a_new_message_of_refusal_is_an_event_again():
    bad = build(seen(healthCheck={}, carried=None), None, NOW)
    assert [one.reason for one in events(None, bad)] == [EventReason.NOT_ACCEPTED]
    assert events(bad, bad) == ()
    futile = {"type": "SourceIP", "failover": {"hold": "1m"}}
    other = build(seen(persistence=futile, carried=None), bad, LATER)
    assert [one.reason for one in events(bad, other)] == [EventReason.NOT_ACCEPTED]


def test_a_route_that_only_redirects_is_ready_without_pods():
    filters = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]
    built = build(seen(rules=[{"name": "app", "filters": filters}]), None, NOW)
    assert conditions(built)["Ready"] == ("True", "Ready")


def test_a_certificate_that_cannot_be_used_is_told_by_ready_and_an_event():
    built = build(seen(tls={"secretName": "x"}), None, NOW)
    assert conditions(built)["Ready"] == ("False", "InvalidCertificateRef")
    assert "Secret default/x does not exist" in message(built, ConditionType.READY)
    assert EventReason.INVALID_CERTIFICATE_REF in [one.reason for one in events(None, built)]


def test_a_certificate_that_ends_soon_is_ready_and_an_event_once():
    good = build(seen(), None, NOW)
    warned = replace(
        seen().verdict, resolved=Verdict(True, ConditionReason.CERTIFICATE_EXPIRING, "ends soon")
    )
    soon = build(replace(seen(), verdict=warned), good, LATER)
    assert conditions(soon)["ResolvedRefs"] == ("True", "CertificateExpiring")
    assert conditions(soon)["Ready"] == ("True", "Ready")
    (event,) = events(good, soon)
    assert (event.reason, event.type) == (EventReason.CERTIFICATE_EXPIRING, "Warning")
    assert events(soon, soon) == ()


def found(pod="web-1", state=EndpointState.UNHEALTHY, proxies=1, asked=2):
    return EndpointView(f"uid-{pod}", pod, "web", 4, 0, Finding(state, proxies, asked))


AT_LIMIT, EJECTED, UNHEALTHY = EndpointState.AT_LIMIT, EndpointState.EJECTED, EndpointState.UNHEALTHY


@pytest.mark.parametrize(
    ("views", "overrides", "states", "ratio", "ready"),
    [
        ([], {}, [("Serving", ""), ("Serving", "")], "2/2", ("True", "2 pods take")),
        ([found()], {}, [("Unhealthy", "1/2"), ("Serving", "")], "2/2", ("True", "2 pods take")),
        ([found(proxies=2)], {}, [("Unhealthy", "2/2"), ("Serving", "")], "1/2", ("True", "1 pod takes")),
        (
            [found(state=AT_LIMIT, proxies=2), found("web-2", state=AT_LIMIT, proxies=2)],
            {},
            [("AtLimit", "2/2"), ("AtLimit", "2/2")],
            "0/2",
            ("False", "No pod of web takes new sessions: 2 AtLimit; scale out, or raise persistence.limits"),
        ),
        (
            [found(state=EJECTED, proxies=2), found("web-2", state=UNHEALTHY, proxies=2)],
            {},
            [("Ejected", "2/2"), ("Unhealthy", "2/2")],
            "0/2",
            ("True", "Ejected pods take"),
        ),
        (
            [found(proxies=2)],
            {"web-1": "Disable", "web-2": "Drain"},
            [("Disabled", ""), ("Draining", "")],
            "0/2",
            ("False", "while they still serve: 1 Disabled, 1 Draining; scale out, or take back overrides"),
        ),
        (
            [found(proxies=2), found("web-2", proxies=2)],
            {},
            [("Unhealthy", "2/2"), ("Unhealthy", "2/2")],
            "0/2",
            ("False", "2 Unhealthy; scale out, or see what the pods answer to healthCheck.active"),
        ),
        (
            [],
            {"web-1": "Release"},
            [("Serving", ""), ("Serving", "")],
            "2/2",
            ("True", "2 pods take"),
        ),
    ],
)
def test_states_by_proxies_and_overrides(views, overrides, states, ratio, ready):
    orders = [
        {"pod": pod, "action": action} | ({"since": "2026-11-23T12:00:00Z"} if action == "Release" else {})
        for pod, action in overrides.items()
    ]
    built = build(seen(scopes=[view(endpoints=views)], overrides=orders), None, NOW)
    assert [(str(one.state), one.found_by) for one in built.endpoints] == states
    assert built.endpoints_ready == ratio
    assert conditions(built)["Ready"][0] == ready[0]
    assert ready[1] in message(built, ConditionType.READY)


def test_pods_that_are_ordered_to_drain_are_not_told_to_be_unready():
    ordered = build(seen(overrides=[{"pod": f"web-{n}", "action": "Drain"} for n in (1, 2)]), None, NOW)
    assert message(ordered, ConditionType.READY) == (
        "At most draining pods of web take new sessions, while they still serve: 2 Draining; "
        "scale out, or take back overrides"
    )


def test_pods_that_drain_beside_unready_ones_lead_to_the_readiness():
    leaving = endpoint("web-1", "10.0.0.1", ready=False, serving=True, terminating=True)
    objects = service(), pieces(leaving, endpoint("web-2", "10.0.0.2", ready=False))
    told = message(build(seen(*objects), None, NOW), ConditionType.READY)
    assert told == (
        "At most draining pods of web take new sessions, while they still serve: 1 Draining, 1 NotReady; "
        "scale out, or look at the pods' readiness: kubectl --namespace default get endpointslices,pods"
    )


def test_the_worst_of_several_scopes_findings_is_told():
    scopes = [
        view(endpoints=[found(state=AT_LIMIT, proxies=2)]),
        view(endpoints=[found(state=EJECTED)]),
        view(endpoints=[EndpointView("uid-web-1", "web-1", "web", 1, 0)]),
    ]
    built = build(seen(scopes=scopes), None, NOW)
    assert (built.endpoints[0].state, built.endpoints[0].found_by) == (EJECTED, "1/2")


def test_pods_that_fail_are_one_event_for_each_cause():
    fine = build(seen(), None, NOW)
    views = [found(state=EJECTED), found("web-2", proxies=2)]
    bad = build(seen(scopes=[view(endpoints=views)]), fine, LATER)
    assert [(one.reason, one.message, one.times) for one in events(fine, bad)] == [
        (EventReason.POD_EJECTED, "web-1 is Ejected (found by 1/2 proxies)", 1),
        (EventReason.POD_UNHEALTHY, "web-2 is Unhealthy (found by 2/2 proxies)", 1),
    ]
    assert status.is_urgent(fine, bad)
    assert events(bad, bad) == events(bad, fine) == ()


def test_a_limit_that_is_met_is_not_urgent():
    fine = build(seen(), None, NOW)
    full = build(seen(scopes=[view(endpoints=[found(state=AT_LIMIT, proxies=2)])]), fine, LATER)
    assert full.endpoints_ready == "1/2"
    assert not status.is_urgent(fine, full)


def test_full_pods_have_a_reason_of_their_own():
    """Bound sessions are served: it is not as if there were no pod."""
    fine = build(seen(), None, NOW)
    for second in (found("web-2", state=AT_LIMIT, proxies=2), found("web-2", proxies=2)):
        views = [found(state=AT_LIMIT, proxies=2), second]
        full = build(seen(scopes=[view(endpoints=views)]), fine, LATER)
        assert conditions(full)["Ready"] == ("False", "AtLimit")
        assert events(fine, full)[0].reason is EventReason.AT_LIMIT
    sick = build(seen(scopes=[view(endpoints=[found(proxies=2), found("web-2", proxies=2)])]), full, LATER)
    assert conditions(sick)["Ready"] == ("False", "NoEndpoints")
    assert EventReason.NO_ENDPOINTS in [one.reason for one in events(full, sick)]


def clash(times, what="cookie sid"):
    clashes = {what: Clash(times=times, last=NOW.timestamp())}
    return replace(view(clashes=clashes), scope="default/shop/web")


def test_an_applications_cookie_of_our_name_is_a_condition_and_one_event():
    named = {"persistence": {"sessionName": "sid"}}
    fine = build(seen(**named), None, NOW)
    first = build(seen(scopes=[clash(1)], **named), fine, NOW)
    assert conditions(first)["CookieConflict"] == ("True", "CookieConflict")
    assert status.is_urgent(fine, first)
    assert [(one.reason, one.type) for one in events(fine, first)] == [
        (EventReason.COOKIE_CONFLICT, "Warning")
    ]
    more = build(seen(scopes=[clash(7)], **named), first, LATER)
    assert "so far: 7" in message(more, ConditionType.COOKIE_CONFLICT)
    assert not status.is_urgent(first, more)
    assert events(first, more) == ()


def test_each_cause_of_a_cookie_conflict_is_told_when_it_begins():
    given = seen(persistence={"sessionName": "sid"})
    other = Verdict(True, ConditionReason.COOKIE_CONFLICT, "meets the cookie of route b")
    warned = replace(given.verdict, warnings=((ConditionType.COOKIE_CONFLICT, other),))

    def told(before, verdict, *scopes):
        built = build(replace(given, verdict=verdict, scopes=scopes), before, LATER)
        return built, [one.message for one in events(before, built)], status.is_urgent(before, built)

    conflict, (first,), _ = told(build(given, None, NOW), warned)
    assert first == other.message
    both, (second,), urgent = told(conflict, warned, clash(3))
    assert second.startswith(f"{first}; persistence.sessionName: in scope web ")
    assert urgent
    # That it goes on is not told again, nor that one of them is over.
    for verdict, scopes in ((warned, [clash(9)]), (given.verdict, [clash(9)]), (warned, [])):
        assert told(both, verdict, *scopes)[1] == []


def test_each_scope_that_begins_to_clash_is_told():
    named = {name: {"persistence": {"sessionName": name}} for name in ("sid", "kid")}
    rules = [rule("a", path="/a"), rule("b", "chat", path="/b", **named["kid"])]
    given = seen(service(), service("chat"), rules=rules, **named["sid"])

    def told(before, *scopes):
        built = build(replace(given, scopes=scopes), before, LATER)
        return built, len(events(before, built)), status.is_urgent(before, built)

    def second(times):
        return replace(clash(times, "cookie kid"), scope="default/shop/b")

    first, *news = told(build(given, None, NOW), second(9))
    assert news == [1, True]
    both, *news = told(first, clash(1), second(10))
    assert news == [1, True]
    assert told(both, clash(100), second(1000))[1:] == (0, False)


@pytest.mark.parametrize(
    "given",
    [
        seen(scopes=[clash(1)], persistence={"sessionName": "other"}),
        seen(scopes=[clash(1)], persistence={"type": "None"}),
        seen(scopes=[clash(1, "header sid")], persistence={"sessionName": "sid"}),
        seen(scopes=[clash(1)], persistence={"type": "Cookie", "sessionName": "sid", "idleTimeout": "x"}),
    ],
    ids=["another name", "no sessions", "another type", "not served"],
)
def test_a_clash_of_another_policy_is_past(given):
    assert "CookieConflict" not in conditions(build(given, None, NOW))


def test_both_causes_of_a_cookie_conflict_are_told():
    given = seen(scopes=[clash(1)], persistence={"sessionName": "sid"})
    other = Verdict(True, ConditionReason.COOKIE_CONFLICT, "meets another")
    warned = replace(given.verdict, warnings=((ConditionType.COOKIE_CONFLICT, other),))
    told = message(build(replace(given, verdict=warned), None, NOW), ConditionType.COOKIE_CONFLICT)
    assert told.startswith("meets another; persistence.sessionName: ")


def test_a_restarted_container_is_an_event_and_a_successor_of_the_name_is_none():
    objects = service(), pieces(endpoint("web-1", "10.0.0.1"))
    before, after, successor = (
        build(seen(*objects, pod("web-1", restarts=restarts)), None, NOW) for restarts in (1, 2, 0)
    )
    (event,) = events(before, after)
    assert (event.reason, event.type) == (EventReason.CONTAINER_RESTARTED, "Warning")
    assert event.message == "a container of web-1 began anew (restart 2): its memory is gone"
    assert events(None, after)[0].reason is EventReason.PROGRAMMED
    assert events(after, after) == events(after, successor) == ()
    assert status.is_urgent(before, after)


def test_two_pods_of_one_name_keep_their_times_and_are_told_of_once():
    """A StatefulSet's pod may be back before its predecessor has left all slices."""
    ends = endpoint("web-1", "10.0.0.1", ready=False, serving=True, terminating=True)
    ends["targetRef"]["uid"] = "uid-web-1-before"
    objects = (service(), pieces(endpoint("web-1", "10.0.0.2"), ends), pod("web-1", restarts=1))
    first, later = (
        seen(*objects, scopes=(view(endpoints=[found(state=EndpointState.EJECTED)], new=new),))
        for new in (1, 2)
    )
    built = build(first, None, NOW)
    again = build(later, built, NOW + timedelta(minutes=5))
    assert [one.state for one in built.endpoints] == ["Ejected", "Draining"]
    assert [one.since for one in again.endpoints] == [NOW, NOW]
    assert events(built, again) == ()


def test_warnings_are_conditions_only_while_they_are_so():
    objects = service(), pieces(endpoint("web-1", "10.0.0.1"))
    drain = {"drainTimeout": "10m"}
    fine = build(seen(*objects, pod("web-1", grace=700.0), persistence=drain), None, NOW)
    short = build(seen(*objects, pod("web-1", grace=30.0), persistence=drain), fine, LATER)
    assert set(conditions(fine)) == {"Accepted", "ResolvedRefs", "Programmed", "Ready"}
    assert conditions(short)["GracePeriodTooShort"] == ("True", "GracePeriodTooShort")
    (event,) = events(fine, short)
    assert (event.reason, event.type) == (EventReason.GRACE_PERIOD_TOO_SHORT, "Warning")
    assert "610" in event.message
    assert events(short, short) == events(short, fine) == ()
