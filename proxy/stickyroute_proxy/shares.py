"""A proxy's leases divided among its workers, so that together they keep to them. Pure."""

from collections.abc import Mapping, Sequence

from stickyroute_api.affinity import AffinityReport, EndpointSessions
from stickyroute_api.leases import Lease, Leases, Moves

_Counts = Mapping[tuple[str, str], EndpointSessions]
"""By scope and endpoint."""


def divide(leases: Leases, reports: Sequence[AffinityReport | None]) -> list[Leases]:
    """The part of each worker, given what each reported last.

    What a worker has used already is part of its own; what is left is divided evenly.
    """
    counts = [_counts(report) for report in reports]
    scopes: list[dict[str, dict[str, Lease]]] = [{} for _ in reports]
    moves: list[dict[str, dict[str, Moves]]] = [{} for _ in reports]
    for scope, endpoints in leases.scopes.items():
        for endpoint, lease in endpoints.items():
            told = [found.get((scope, endpoint)) for found in counts]
            placed = _bounds(lease.placed, [one.placed if one else 0 for one in told])
            requests = _bounds(lease.requests, [one.in_flight if one else 0 for one in told])
            for number, (may_place, may_request) in enumerate(zip(placed, requests, strict=True)):
                part = Lease(placed=may_place, requests=may_request)
                scopes[number].setdefault(scope, {})[endpoint] = part
    for scope, to_move in leases.moves.items():
        for endpoint, move in to_move.items():
            told = [found.get((scope, endpoint)) for found in counts]
            for number, count in enumerate(
                weighted(move.sessions, [one.active if one else 0 for one in told])
            ):
                moves[number].setdefault(scope, {})[endpoint] = Moves(sessions=count)
    return [
        leases.model_copy(update={"scopes": scopes[number], "moves": moves[number]})
        for number in range(len(reports))
    ]


def above(total: int, used: Sequence[int]) -> list[int]:
    """Parts whose sum is `total`, each what is used already and an even share of the rest."""
    left = total - sum(used)
    if left < 0:
        return weighted(total, used)
    each, more = divmod(left, max(1, len(used)))
    return [own + each + (number < more) for number, own in enumerate(used)]


def weighted(total: int, weights: Sequence[int]) -> list[int]:
    """Parts whose sum is `total`, by weight; even where nothing weighs."""
    whole = sum(weights)
    if not whole:
        return above(total, [0] * len(weights))
    parts, given, seen = [], 0, 0
    for weight in weights:
        seen += weight
        upto = total * seen // whole
        parts.append(upto - given)
        given = upto
    return parts


def _bounds(total: int | None, used: Sequence[int]) -> Sequence[int | None]:
    return [None] * len(used) if total is None else above(total, used)


def _counts(report: AffinityReport | None) -> _Counts:
    scopes = {} if report is None else report.scopes
    return {
        (identity, sessions.endpoint): sessions
        for identity, scope in scopes.items()
        for sessions in scope.endpoints
    }
