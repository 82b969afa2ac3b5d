"""The limits of scopes shared out over the proxies: what each may place on each pod. Pure.

Whatever proxies have heard and whatever they have not, they never place more than a limit together: see
`shares.apportion`. Of a proxy that has not told of a limit yet, what it takes by itself is kept free.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stickyroute_api.affinity import EndpointSessions
from stickyroute_api.leases import Lease
from stickyroute_api.shares import ROTATION, Lent, above, apportion, weighted
from stickyroute_api.snapshot import SessionLimits
from stickyroute_operator.ledger import EndpointView, Ledger, ScopeView, ids_of

Quotas = dict[str, dict[str, Lease]]
"""By scope and `Endpoint.id`."""


@dataclass(frozen=True, slots=True)
class Limited:
    """A scope with limits."""

    limits: SessionLimits
    endpoints: frozenset[str]
    """`Endpoint.id`."""


def quotas(
    scopes: Mapping[str, Limited],
    ledger: Ledger,
    views: Mapping[str, ScopeView],
    proxies: Mapping[str, bool],
    *,
    lent: Mapping[str, Lent],
    sequence: int,
) -> dict[str, Quotas]:
    """The leases of each proxy, by its name.

    `proxies` says by name who is current, `lent` what they were sent since they reported; `sequence` is
    theirs.
    """
    found: dict[str, Quotas] = {name: {} for name in proxies}
    told = {name: _rows(ledger, name) for name in proxies}
    for scope, limited in scopes.items():
        seen = {one.endpoint: one for one in views[scope].endpoints} if scope in views else {}
        for endpoint in sorted(limited.endpoints):
            place = scope, endpoint
            rows = {name: told[name].get(place) for name in proxies}
            held = {name: lent.get(name, Lent()).held(place, rows[name]) for name in proxies}
            placed: Mapping[str, int] = {}
            if limited.limits.sessions:
                view = seen.get(endpoint)
                placed = _placed(
                    limited.limits.sessions,
                    rows,
                    held,
                    view,
                    ledger=ledger,
                    proxies=proxies,
                    sequence=sequence,
                )
            requests: Mapping[str, int] = {}
            if limited.limits.requests:
                requests = _requests(limited.limits.requests, rows, sequence)
            for name in {*placed, *requests}:
                lease = Lease(placed=placed.get(name), requests=requests.get(name))
                found[name].setdefault(scope, {})[endpoint] = lease
    return found


def _rows(ledger: Ledger, name: str) -> dict[tuple[str, str], EndpointSessions]:
    report = ledger.running.get(name)
    scopes = {} if report is None else report.scopes
    return {(scope, one.endpoint): one for scope, told in scopes.items() for one in told.endpoints}


def _placed(
    limit: int,
    rows: Mapping[str, EndpointSessions | None],
    held: Mapping[str, int],
    seen: EndpointView | None,
    *,
    ledger: Ledger,
    proxies: Mapping[str, bool],
    sequence: int,
) -> dict[str, int]:
    """Up to what each may place; those that have not told of the limit yet are left as they are."""
    known = {name: row for name, row in rows.items() if row is not None and row.ceiling is not None}
    if not known:
        return {}
    present = 0 if seen is None else seen.active + seen.remembered
    pending = _pending(ledger, known)
    own = max(1, limit // len(rows))
    others = sum(max(own, held[name]) for name in rows if name not in known)
    names = sorted(known)
    shares = apportion(
        limit - present - pending - others,
        [held[name] for name in names],
        [1 + known[name].active + known[name].pending if proxies[name] else 0 for name in names],
        sequence // ROTATION,
    )
    return {name: known[name].placed + share for name, share in zip(names, shares, strict=True)}


def _pending(ledger: Ledger, rows: Mapping[str, EndpointSessions]) -> int:
    """Sessions that have come back to no proxy yet."""
    carried, waits, back = 0, set[bytes](), set[bytes]()
    for name, row in rows.items():
        sample = ledger.running[name].sample
        ids = ids_of(row.pending_ids, sample)
        carried += len(ids)
        waits |= ids
        back |= ids_of(row.ids, sample)
    stated = sum(row.pending for row in rows.values())
    return round(stated * len(waits - back) / carried) if carried else stated


def _requests(limit: int, rows: Mapping[str, EndpointSessions | None], sequence: int) -> dict[str, int]:
    """Up to how many requests in flight each may place new sessions."""
    names = list(_rotated(sorted(rows), sequence // ROTATION))
    used = [row.in_flight if (row := rows[name]) is not None else 0 for name in names]
    parts = above(limit, used) if sum(used) <= limit else weighted(limit, used)
    return dict(zip(names, parts, strict=True))


def _rotated(names: list[str], turn: int) -> Iterator[str]:
    return (names[(turn + number) % len(names)] for number in range(len(names)))
