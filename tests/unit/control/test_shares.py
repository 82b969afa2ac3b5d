"""A proxy's leases divided among its workers: the parts add up to the whole, whatever was used before."""

from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api.affinity import AffinityReport, EndpointSessions, ScopeReport
from stickyroute_api.leases import Drain, Lease, Leases, Moves
from stickyroute_proxy.shares import above, divide, weighted

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
    parts = divide(leases, [report(placed=6, in_flight=4, active=30), report(active=10), None])
    assert [part.scopes[SCOPE]["x"] for part in parts] == [
        Lease(placed=8, requests=4),
        Lease(placed=2, requests=0),
        Lease(placed=2, requests=0),
    ]
    assert [part.scopes[SCOPE]["y"] for part in parts] == [Lease(placed=1)] * 3
    assert [part.moves[SCOPE]["x"].sessions for part in parts] == [3, 1, 0]
    assert all(part.drains == leases.drains for part in parts)
    assert all((part.epoch, part.sequence) == (3, 7) for part in parts)
