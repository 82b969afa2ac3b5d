"""Who is let in."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api.settings import Limits
from stickyroute_proxy.wire.admission import RESERVE, Admission, Cause


def cause(refusal):
    return refusal and (refusal.status, refusal.cause)


def test_connections_in_all():
    admission = Admission(Limits(connections=2), 10_000)
    assert admission.enter("10.0.0.1", 1) is None
    assert cause(admission.enter("10.0.0.1", 2)) == (503, Cause.CONNECTIONS)
    admission = Admission(Limits(), 10_000)
    assert admission.connections == (10_000 - RESERVE) // 2
    assert Admission(Limits(), 20).connections == 1


def test_connections_of_one_address():
    admission = Admission(Limits(connections_per_address=2), 10_000)
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::ffff"):
        assert admission.enter(address, 0) is None
    for address in ("10.0.0.1", "2001:db8:0:0:1::"):
        assert cause(admission.enter(address, 0)) == (429, Cause.CONNECTIONS_PER_ADDRESS)
    assert admission.enter("2001:db8:0:1::", 0) is None
    assert all(admission.enter("", 0) is None for _ in range(9))
    admission.leave("2001:db8::1")
    assert admission.enter("2001:db8::2", 0) is None


def test_requests_in_flight():
    admission = Admission(Limits(requests=3), 10_000)
    assert admission.requests == 3
    assert admission.request(2, first=True) is None
    assert cause(admission.request(3, first=False)) == (503, Cause.REQUESTS)


def test_overloaded_it_knows_only_those_it_serves():
    admission = Admission(Limits(), 10_000)
    assert admission.requests > 10**9
    admission.overloaded = True
    assert admission.requests < 0
    assert cause(admission.request(5, first=True)) == (503, Cause.OVERLOAD)
    assert admission.request(5, first=False) is None
    admission.take(Limits(requests=5), ())
    assert cause(admission.request(5, first=False)) == (503, Cause.REQUESTS)
    assert admission.requests < 0
    admission.overloaded = False
    assert admission.requests == 5


@given(st.lists(st.tuples(st.sampled_from(("enter", "leave", "limit")), st.integers(0, 4)), max_size=80))
def test_what_is_counted_is_who_is_there(steps):
    """Also when the limit comes, changes and goes while they are there."""
    admission = Admission(Limits(), 10_000)
    limit, inside = 0, Counter()
    for step, number in steps:
        address = f"10.0.0.{number}"
        if step == "limit":
            limit = number
            admission.take(Limits(connections_per_address=limit), list(inside.elements()))
        elif step == "leave":
            if inside[address]:
                inside[address] -= 1
                admission.leave(address)
        else:
            full = bool(limit) and inside[address] >= limit
            assert bool(admission.enter(address, 0)) is full
            inside[address] += not full
