"""Leases made of a snapshot and reports: drains that are told, and those of which too little is known."""

import base64

import pytest
from tests.component.control.support import endpoint, snapshot

from stickyroute_api.affinity import DEFAULT_WINDOW, AffinityReport, Departure, EndpointSessions, ScopeReport
from stickyroute_api.leases import Drain, Leases
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Version
from stickyroute_operator.leases import Place, Subjects, share
from stickyroute_operator.ledger import Ledger, merge

SCOPE = "shop/route-0/web"
POD = "shop/web-0-0"
UID = "uid-0-0"
BEGAN, TIMEOUT, IDLE = 1000.0, 300.0, 600.0


def draining(revision=5, timeout=TIMEOUT, **more):
    """A snapshot whose first pod drains."""
    made = snapshot(revision)
    gone = endpoint(0, state=EndpointState.DRAINING, draining_since=BEGAN, **more)
    route = made.routes["shop/route-0"]
    (rule,) = route.rules
    policy = rule.persistence.model_copy(update={"drain_timeout": timeout})
    route = route.model_copy(update={"rules": (rule.model_copy(update={"persistence": policy}),)})
    return made.model_copy(
        update={
            "routes": {"shop/route-0": route},
            "endpoints": {"shop/web-0:8080": (gone, endpoint(1), endpoint(2))},
        }
    )


def ids(*numbers):
    return base64.b64encode(b"".join(number.to_bytes(8, "big") for number in numbers)).decode()


def report(proxy, *sessions, at=UID, revision=5, started=1.0, departures=(), **more):
    on = EndpointSessions(
        endpoint=at,
        pod="web-0-0",
        service="web",
        active=len(sessions),
        ids=ids(*sessions),
        **{"in_flight": 0} | more,
    )
    return AffinityReport(
        proxy=proxy,
        started=started,
        epoch=1,
        revision=revision,
        scopes={SCOPE: ScopeReport(endpoints=(on,), departures=departures)},
    )


def ledger(*reports, now=0.0):
    found = Ledger()
    for one in reports:
        found = found.add(one, now)
    return found


def told(found, current, made=None):
    """The drains that are told to proxy a."""
    subjects = Subjects.of(made or draining(), Subjects())
    template = Leases(fleet="f", epoch=1, sequence=1)
    proxies = {"a": True} | current
    return share(template, subjects, found, merge(found), proxies, lent={}, moved={}, lent_moves={})[
        "a"
    ].drains


def test_sessions_of_all_proxies_count_once():
    found = ledger(report("a", 1, 2, in_flight=1), report("b", 2, 3, in_flight=3, tunnels=2))
    assert told(found, {"b": True}) == {POD: Drain(sessions=3, requests=4, tunnels=2, since=BEGAN)}


@pytest.mark.parametrize(
    ("reports", "current"),
    [
        ([report("a", 1)], {"b": True}),
        ([report("a", 1), report("b", revision=4)], {"b": True}),
        ([], {}),
        ([], {"a": False}),
    ],
    ids=[
        "one told nothing yet",
        "one told before it knew of the drain",
        "the operator began anew",
        "it began anew while none was ready",
    ],
)
def test_nothing_is_told_before_every_current_proxy_is_known(reports, current):
    assert told(ledger(*reports), current) == {}


def test_a_proxy_that_is_not_current_is_not_waited_for_but_counts():
    found = ledger(report("a", 1), report("b", 2, revision=4))
    assert told(found, {"b": False, "c": False})[POD].sessions == 2


def test_what_an_ended_proxy_knew_counts_until_its_idle_timer_is_over():
    found = ledger(report("a"), report("b", 1, 2)).keep(["a"], 2000.0)
    assert told(found, {})[POD].sessions == 2
    windows = Subjects.of(draining(), Subjects()).windows
    assert windows == {SCOPE: IDLE}
    assert found.forget(2000.0 + IDLE - 1, windows) is found
    assert told(found.forget(2000.0 + IDLE, windows), {})[POD].sessions == 0


def test_a_restarted_proxys_sessions_count_too():
    found = ledger(report("a", 1, 2)).add(report("a", 2, started=2.0), 2000.0)
    assert told(found, {})[POD].sessions == 2


@pytest.mark.parametrize(
    "seen",
    [
        report("a", 1),
        report("a", 1, at="uid-0-1"),
        report(
            "a",
            departures=[
                Departure(
                    time=1.0,
                    endpoint=UID,
                    pod="web-0-0",
                    reason=BindingReason.RELEASED,
                    dropped=1,
                    moved=1,
                    ids=ids(1),
                )
            ],
        ),
    ],
    ids=["there", "elsewhere", "leaving"],
)
def test_a_session_of_an_ended_proxy_that_another_has_seen_is_the_others(seen):
    found = ledger(seen, report("b", 1)).keep(["a"], 2000.0)
    here = any(one.endpoint == UID and one.active for one in seen.scopes[SCOPE].endpoints)
    assert told(found, {})[POD].sessions == int(here)


def test_active_sessions_in_status_are_those_of_running_proxies():
    found = ledger(report("a", 1), report("b", 2)).keep(["a"], 2000.0)
    assert merge(found)[SCOPE].active == 1


def test_a_drain_keeps_its_beginning():
    first = Subjects.of(draining(5), Subjects())
    assert first.drains[POD].begun == Version(1, 5)
    assert first.drains[POD].places == {Place(SCOPE, UID)}
    later = Subjects.of(draining(9), first)
    assert later.drains == first.drains
    assert not Subjects.of(snapshot(10), later)
    assert Subjects.of(draining(9), later) is later, "the same snapshot is not looked at again"


def test_a_scope_without_an_idle_timer_has_the_default_window():
    made = draining()
    (rule,) = made.routes["shop/route-0"].rules
    policy = rule.persistence.model_copy(update={"idle_timeout": None})
    route = made.routes["shop/route-0"].model_copy(
        update={"rules": (rule.model_copy(update={"persistence": policy}),)}
    )
    made = made.model_copy(update={"routes": {"shop/route-0": route}})
    assert Subjects.of(made, Subjects()).windows == {SCOPE: DEFAULT_WINDOW}
