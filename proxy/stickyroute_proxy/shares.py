"""A proxy's leases divided among its workers, so that together they keep to them. Pure."""

from collections.abc import Mapping, Sequence

from stickyroute_api.affinity import AffinityReport, EndpointSessions
from stickyroute_api.leases import Lease, Leases, Moves
from stickyroute_api.shares import ROTATION, Lent, above, apportion, weighted

_Counts = Mapping[tuple[str, str], EndpointSessions]
"""By scope and endpoint."""


def divide(
    leases: Leases,
    reports: Sequence[AffinityReport | None],
    lent: Sequence[Lent],
    ended: AffinityReport | None = None,
) -> list[Leases]:
    """The part of each worker, given what each reported last and what it was lent since.

    What a worker has used already is part of its own; what is left is shared out. `ended`: what those that
    have ended reported.
    """
    counts = [_counts(report) for report in reports]
    gone = _counts(ended)
    scopes: list[dict[str, dict[str, Lease]]] = [{} for _ in reports]
    moves: list[dict[str, dict[str, Moves]]] = [{} for _ in reports]
    for scope, endpoints in leases.scopes.items():
        for endpoint, lease in endpoints.items():
            told = [found.get((scope, endpoint)) for found in counts]
            before = gone.get((scope, endpoint))
            placed = _placed(
                None if lease.placed is None else lease.placed - (before.placed if before else 0),
                told,
                [one.held((scope, endpoint), found) for one, found in zip(lent, told, strict=True)],
                leases.sequence // ROTATION,
            )
            requests = _bounds(lease.requests, [one.in_flight if one else 0 for one in told])
            for number, (may_place, may_request) in enumerate(zip(placed, requests, strict=True)):
                part = Lease(placed=may_place, requests=may_request)
                scopes[number].setdefault(scope, {})[endpoint] = part
    for scope, to_move in leases.moves.items():
        for endpoint, move in to_move.items():
            told = [found.get((scope, endpoint)) for found in counts]
            used = [one.rebalanced if one else 0 for one in told]
            before = gone.get((scope, endpoint))
            left = move.sessions - sum(used) - (before.rebalanced if before else 0)
            parts = weighted(max(0, left), [one.active if one else 0 for one in told])
            for number, (own, more) in enumerate(zip(used, parts, strict=True)):
                moves[number].setdefault(scope, {})[endpoint] = Moves(sessions=own + more)
    return [
        leases.model_copy(update={"scopes": scopes[number], "moves": moves[number]})
        for number in range(len(reports))
    ]


def raised(report: AffinityReport, lent: Lent) -> AffinityReport:
    """The report with all that the worker may have heard of since."""
    scopes = {
        identity: scope.model_copy(
            update={
                "endpoints": tuple(
                    one
                    if one.ceiling is None
                    else one.model_copy(
                        update={"ceiling": max(one.ceiling, lent.most((identity, one.endpoint)))}
                    )
                    for one in scope.endpoints
                )
            }
        )
        for identity, scope in report.scopes.items()
    }
    return report.model_copy(update={"scopes": scopes})


def _placed(
    total: int | None, told: Sequence[EndpointSessions | None], held: Sequence[int], turn: int
) -> Sequence[int | None]:
    if total is None:
        return [None] * len(told)
    placed = [one.placed if one else 0 for one in told]
    demand = [1 + (one.active + one.pending if one else 0) for one in told]
    shares = apportion(total - sum(placed), held, demand, turn)
    return [own + share for own, share in zip(placed, shares, strict=True)]


def _bounds(total: int | None, used: Sequence[int]) -> Sequence[int | None]:
    return [None] * len(used) if total is None else above(total, used)


def _counts(report: AffinityReport | None) -> _Counts:
    scopes = {} if report is None else report.scopes
    return {
        (identity, sessions.endpoint): sessions
        for identity, scope in scopes.items()
        for sessions in scope.endpoints
    }
