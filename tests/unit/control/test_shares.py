"""A proxy's leases divided among its workers: the parts add up to the whole, whatever was used before."""

from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api.affinity import AffinityReport, EndpointSessions, ScopeReport
from stickyroute_api.leases import Drain, Lease, Leases, Moves
from stickyroute_api.shares import Lent, above, apportion, weighted
from stickyroute_proxy.shares import divide, raised

SCOPE = "shop/route/web"
COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=8)


@given(st.integers(0, 500), COUNTS)
def test_parts_add_up_and_none_takes_back_what_was_used(total, used):
    parts = above(total, used)
    assert sum(parts) == total
    assert min(parts) >= 0
    left = total - sum(used)
    if left >= 0:
        more = [part - own for part, own in zip(parts, used, strict=True)]
        assert max(more) - min(more) <= 1
    else:
        assert all(part <= own for part, own in zip(parts, used, strict=True))


@given(st.integers(0, 500), COUNTS)
def test_weighted_parts_add_up_and_go_by_weight(total, weights):
    parts = weighted(total, weights)
    assert sum(parts) == total
    if sum(weights):
        ideal = [total * weight / sum(weights) for weight in weights]
        assert all(abs(part - wanted) <= 1 for part, wanted in zip(parts, ideal, strict=True))


def report(**counts):
    on = EndpointSessions(endpoint="x", pod="web-0", service="web", **{"active": 0, "in_flight": 0} | counts)
    return AffinityReport(
        proxy="p", started=1.0, epoch=1, revision=1, scopes={SCOPE: ScopeReport(endpoints=(on,))}
    )


def test_each_worker_gets_its_part_of_each_lease():
    leases = Leases(
        fleet="f",
        epoch=3,
        sequence=7,
        scopes={SCOPE: {"x": Lease(placed=12, requests=4), "y": Lease(placed=3)}},
        moves={SCOPE: {"x": Moves(sessions=4)}},
        drains={"shop/web-0": Drain(sessions=5, since=1.0)},
    )
    reports = [report(placed=6, in_flight=4, active=30), report(active=10), None]
    parts = divide(leases, reports, [Lent()] * 3)
    assert [part.scopes[SCOPE]["x"] for part in parts] == [
        Lease(placed=11, requests=4),
        Lease(placed=1, requests=0),
        Lease(placed=0, requests=0),
    ]
    assert [part.scopes[SCOPE]["y"] for part in parts] == [Lease(placed=1)] * 3
    assert [part.moves[SCOPE]["x"].sessions for part in parts] == [3, 1, 0]
    assert all(part.drains == leases.drains for part in parts)
    assert all((part.epoch, part.sequence) == (3, 7) for part in parts)


def test_what_ended_workers_placed_is_no_part_of_the_others():
    leases = Leases(fleet="f", epoch=1, sequence=1, scopes={SCOPE: {"x": Lease(placed=9)}})
    parts = divide(leases, [report(placed=2), report()], [Lent()] * 2, report(placed=3))
    assert sum(part.scopes[SCOPE]["x"].placed for part in parts) == 6


def test_a_worker_that_may_still_place_keeps_the_others_from_it():
    lent = Lent().add(Leases(fleet="f", epoch=0, sequence=4, scopes={SCOPE: {"x": Lease(placed=5)}}))
    leases = Leases(fleet="f", epoch=1, sequence=1, scopes={SCOPE: {"x": Lease(placed=6)}})
    parts = divide(leases, [report(placed=0, ceiling=2), report(placed=0, ceiling=0)], [lent, Lent()])
    assert [part.scopes[SCOPE]["x"].placed for part in parts] == [3, 1]
    parts = divide(leases, [report(placed=0, ceiling=2), report(placed=0, ceiling=0)], [Lent()] * 2)
    assert [part.scopes[SCOPE]["x"].placed for part in parts] == [3, 3]
    (told,) = raised(report(placed=0, ceiling=2), lent).scopes[SCOPE].endpoints
    assert told.ceiling == 5
    assert raised(report(placed=0), lent) == report(placed=0)


def test_what_a_holder_goes_by_is_heard_of_and_what_it_was_sent_since_is_not():
    lent = Lent()
    for number in range(1, 12):
        scopes = {SCOPE: {"x": Lease(placed=100 - number)}}
        lent = lent.add(Leases(fleet="f", epoch=1, sequence=number, scopes=scopes))
    place = SCOPE, "x"
    assert [lent.heard((1, number)).most(place) for number in (0, 4, 5, 10, 11)] == [99, 95, 94, 89, 0]
    assert [lent.since((1, number)).most(place) for number in (0, 5, 11)] == [99, 95, 89]
    assert lent.heard((2, 0)) == Lent()


HELD = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8)


@given(st.integers(-20, 200), HELD, st.integers(0, 99))
def test_what_is_told_and_what_is_held_never_exceed_the_room(room, holders, turn):
    held, demand = [one for one, _ in holders], [other for _, other in holders]
    shares = apportion(room, held, demand, turn)
    assert min(shares) >= 0
    assert sum(map(max, shares, held)) <= max(0, room, sum(held))
    assert sum(shares) <= max(0, room) or sum(shares) <= sum(held)
    assert sum(apportion(room, shares, demand, turn)) <= max(0, room)


@given(st.integers(1, 200), HELD)
def test_where_there_is_room_everybody_gets_some_in_turn(room, holders):
    held = [one for one, _ in holders]
    served = set()
    for turn in range(2 * len(held)):
        for _ in range(3):
            held = apportion(room, held, [1 + other for _, other in holders], turn)
        assert sum(held) == room
        served.update(number for number, one in enumerate(held) if one)
    assert served == set(range(len(held)))
