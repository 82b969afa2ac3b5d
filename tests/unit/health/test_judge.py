"""What news make of an endpoint's health."""

import pytest
from tests.unit.proxy.fleets import NOW, pod

from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import ActiveCheck, HealthCheck, PassiveCheck
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.health.judge import Judge

ACTIVE = ActiveCheck(healthy=2, unhealthy=3)
PASSIVE = PassiveCheck(consecutive_failures=3, eject_for=30, max_ejected_percent=50)


def judged(count, policy, states=None):
    judge = Judge()
    endpoints = tuple(
        Endpoint(pod(f"web-{number}", (states or {}).get(number, EndpointState.SERVING)), "web")
        for number in range(count)
    )
    judge.follow(policy, endpoints)
    return judge, endpoints


def check(judge, endpoint, news):
    """`news`: + and - for good and bad checks; the verdict after each, u for unhealthy."""
    told = ""
    for one in news:
        judge.checked(endpoint, good=one == "+")
        told += "u" if endpoint.unhealthy else "h"
    return told


@pytest.mark.parametrize(
    ("news", "verdicts"),
    [
        ("---", "hhu"),
        ("--+---", "hhhhhu"),
        ("---+-++", "hhuuuuh"),
        ("---++", "hhuuh"),
        ("++++", "hhhh"),
    ],
)
def test_only_so_many_checks_in_a_row_change_a_verdict(news, verdicts):
    judge, (first, *_) = judged(3, HealthCheck(active=ACTIVE))
    assert check(judge, first, news) == verdicts


def test_checks_that_fail_nearly_everywhere_are_not_believed():
    judge, endpoints = judged(4, HealthCheck(active=ACTIVE, panic_percent=50))
    for endpoint in endpoints[:2]:
        check(judge, endpoint, "---")
    assert [one.unhealthy for one in endpoints] == [True, True, False, False]
    check(judge, endpoints[2], "---")
    assert judge.panics
    assert not any(one.unhealthy for one in endpoints)
    check(judge, endpoints[2], "++")
    assert [one.unhealthy for one in endpoints] == [True, True, False, False]


def test_a_single_pod_is_never_taken_away_by_its_check_unless_that_is_wanted():
    judge, (only,) = judged(1, HealthCheck(active=ACTIVE))
    assert check(judge, only, "---") == "hhh"
    judge, (only,) = judged(1, HealthCheck(active=ACTIVE, panic_percent=0))
    assert check(judge, only, "---") == "hhu"


def test_pods_that_are_not_ready_do_not_count_for_the_panic():
    states = {2: EndpointState.NOT_READY, 3: EndpointState.DRAINING}
    judge, endpoints = judged(4, HealthCheck(active=ACTIVE, panic_percent=50), states)
    for endpoint in endpoints[2:]:
        check(judge, endpoint, "---")
    assert [one.unhealthy for one in endpoints] == [False, False, True, True]
    check(judge, endpoints[0], "---")
    assert endpoints[0].unhealthy


def test_failures_in_a_row_eject_for_a_while():
    judge, (first, *_) = judged(3, HealthCheck(passive=PASSIVE))
    assert not judge.failed(first, NOW)
    judge.answered(first, 200, NOW)
    assert not any(judge.failed(first, NOW) for _ in range(2))
    assert judge.answered(first, 503, NOW)
    assert first.ejected_until == NOW + 30
    # While it is out, nothing more is held against it: it comes back with a clean slate.
    assert not any(judge.failed(first, NOW + 1) for _ in range(9))
    assert not judge.failed(first, NOW + 31)


def test_an_applications_own_errors_eject_nobody():
    judge, (first, *_) = judged(3, HealthCheck(passive=PASSIVE))
    assert not any(judge.answered(first, status, NOW) for status in (500, 501, 505, 400) * 9)


@pytest.mark.parametrize(
    ("count", "percent", "out"), [(4, 50, 2), (3, 50, 1), (1, 50, 0), (4, 0, 0), (4, 100, 4)]
)
def test_no_more_than_the_largest_share_is_ejected(count, percent, out):
    policy = HealthCheck(passive=PASSIVE.model_copy(update={"max_ejected_percent": percent}))
    judge, endpoints = judged(count, policy)
    for endpoint in endpoints:
        for _ in range(3):
            judge.failed(endpoint, NOW)
    assert sum(bool(one.ejected_until) for one in endpoints) == out


def test_what_is_known_outlives_a_change_of_pods_and_ends_with_the_check():
    judge, endpoints = judged(4, HealthCheck(active=ACTIVE, passive=PASSIVE))
    first, second, *rest = endpoints
    check(judge, first, "---")
    for _ in range(3):
        judge.failed(second, NOW)
    new = Endpoint(pod("web-9"), "web")
    assert judge.follow(judge.policy, (first, second, *rest[1:], new)) == []
    assert first.unhealthy
    assert not judge.knows(rest[0])
    assert set(judge.follow(HealthCheck(), (first, second, new))) == {first, second}
    assert not first.unhealthy
    assert not second.ejected_until
