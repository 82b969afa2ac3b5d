"""The affinity report: what this proxy knows of sessions and moves, for the operator.

Made in steps (`slices`), while requests wait for the loop.
"""

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from math import floor
from types import MappingProxyType
from typing import Final, NamedTuple

from stickyroute_api.affinity import (
    ID_BYTES,
    WORST,
    AffinityReport,
    Departure,
    EndpointSessions,
    ScopeReport,
    together,
)
from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Version
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.sessions import DEPARTURE_SECONDS
from stickyroute_proxy.slices import Steps
from stickyroute_proxy.table import Scope, Table

MAX_BYTES: Final = 256_000
"""The size in JSON that a report does not exceed."""

_ROWS_BYTES: Final = 150_000
"""What rows may take of it; the ids have what they leave."""
_ROW_BYTES: Final = 200
"""What a row takes beside its texts, at most."""
_END_BYTES: Final = 40
"""What a reason and its number take, at most."""
_CLASH_BYTES: Final = 80
"""What a clash takes beside its name, at most."""
_MAX_ROWS: Final = _ROWS_BYTES // _ROW_BYTES
_CHUNK: Final = 4096
"""How many ids are looked at in one step."""
_MARGIN: Final = 0.9
"""The share of the room that ids are planned for: a sample is seldom exact."""
_ALL: Final = 256
"""The limit of an id's first byte that lets all ids pass."""


class _Row(NamedTuple):
    """An endpoint of a scope, or a departure from one, or the counts of the scope alone."""

    scope: str
    weight: float
    """Rows of less weight are left out first."""
    size: int
    make: Callable[[str, str], EndpointSessions | Departure | ScopeReport]
    """The row with these ids and pending ones, made once it is clear that there is room for it."""
    ids: Sequence[bytes] = ()
    pending: Sequence[bytes] = ()


def report(
    table: Table,
    proxy: str,
    started: float,
    now: float,
    tunnels: Mapping[tuple[str, str], int] = MappingProxyType({}),
    *,
    leased: tuple[int, int] = (0, 0),
) -> Steps[AffinityReport]:
    """What the proxy of that name, which runs since `started`, knows at `now`.

    `tunnels`: those that are open, by scope and `Endpoint.id`; `leased`: the leases that it goes by.

    Scopes and endpoints without activity are left out. When there are too many rows, the least busy
    endpoints go, then the oldest departures, then scopes; when there are too many sessions, `sample` says
    which share of their ids is carried.

    Requests go on between two steps, so rows are of slightly different moments: within each, `active` is the
    number of its ids; a session that moves meanwhile may be in two of them, or in none.
    """
    table.known.second = now
    scopes = tuple(table.scopes.values())
    rows = (row for scope in scopes for row in _rows(scope, tunnels, now))
    return _fitted(rows, _ALL, proxy, started, table.version, leased=leased)


def merge(
    reports: Iterable[AffinityReport],
    proxy: str,
    started: float,
    version: Version,
    now: float,
    *,
    leased: tuple[int, int] = (0, 0),
) -> Steps[AffinityReport]:
    """The reports of several workers as that of one proxy.

    A session that several of them know on one endpoint counts once there. One that they know on different
    endpoints stays on each: the operator, which sees all proxies' departures, decides where it counts.
    """
    reports = tuple(reports)
    limit = round(_ALL * min((told.sample for told in reports), default=1.0))
    counts: dict[str, ScopeReport] = {}
    departed: list[_Row] = []
    endpoints: dict[tuple[str, str], _Merged] = {}
    for told in reports:
        for scope_id, scope in told.scopes.items():
            counts[scope_id] = _added(counts.get(scope_id, ScopeReport()), scope)
            for departure in scope.departures:
                if departure.time + DEPARTURE_SECONDS > now:
                    departed.append(_departure(scope_id, departure, _ids(departure.ids, limit), now))
                    yield
            for sessions in scope.endpoints:
                key = scope_id, sessions.endpoint
                endpoints.setdefault(key, _Merged(sessions)).add(
                    sessions, _ids(sessions.ids, limit), _ids(sessions.pending_ids, limit)
                )
                yield
            yield
    rows = chain(
        (_counts(scope_id, scope) for scope_id, scope in counts.items()),
        departed,
        (merged.row(scope_id) for (scope_id, _), merged in endpoints.items()),
    )
    return (yield from _fitted(rows, limit, proxy, started, version, leased=leased))


def ended(told: AffinityReport) -> AffinityReport:
    """What a worker's last report still says when it has ended: it holds no sessions.

    What it placed it did: the proxy's leases count on from there.
    """
    left = {
        key: scope.model_copy(update={"endpoints": tuple(map(_placed, filter(_lasts, scope.endpoints)))})
        for key, scope in told.scopes.items()
    }
    return told.model_copy(update={"scopes": left})


def _lasts(sessions: EndpointSessions) -> bool:
    return bool(sessions.placed or sessions.rebalanced)


def _placed(sessions: EndpointSessions) -> EndpointSessions:
    return EndpointSessions(
        endpoint=sessions.endpoint,
        pod=sessions.pod,
        service=sessions.service,
        active=0,
        in_flight=0,
        placed=sessions.placed,
        ceiling=None if sessions.ceiling is None else sessions.placed,
        rebalanced=sessions.rebalanced,
    )


class _Merged:
    """One endpoint of a scope as several workers know it."""

    def __init__(self, first: EndpointSessions) -> None:
        self._first = first
        self._stated = self._in_flight = self._tunnels = self._carried = 0
        self._placed = self._pending = self._carried_pending = 0
        self._pending_ids: set[bytes] = set()
        self._rebalanced = 0
        self._ceiling: int | None = None
        self._states: set[EndpointState] = set()
        self._has_room = False
        self._ids: set[bytes] = set()

    def add(self, sessions: EndpointSessions, ids: Sequence[bytes], pending: Sequence[bytes]) -> None:
        self._stated += sessions.active
        self._in_flight += sessions.in_flight
        self._tunnels += sessions.tunnels
        self._placed += sessions.placed
        self._rebalanced += sessions.rebalanced
        self._pending += sessions.pending
        self._carried_pending += len(pending)
        self._pending_ids.update(pending)
        if sessions.ceiling is not None:
            self._ceiling = (self._ceiling or 0) + sessions.ceiling
        if sessions.state is not None:
            self._states.add(sessions.state)
        elif sessions.ceiling is not None and sessions.placed < sessions.ceiling:
            self._has_room = True
        self._carried += len(ids)
        self._ids.update(ids)

    def row(self, scope_id: str) -> _Row:
        # without overlap the stated number stays exact, sampled or not
        active = round(self._stated * len(self._ids) / self._carried) if self._carried else self._stated
        # who has come back to another worker is not waited for
        waits = self._pending_ids - self._ids
        pending = self._pending
        if self._carried_pending:
            pending = round(pending * len(waits) / self._carried_pending)
        if self._has_room:
            self._states.discard(EndpointState.AT_LIMIT)
        found = {
            "active": active,
            "in_flight": self._in_flight,
            "tunnels": self._tunnels,
            "placed": self._placed,
            "pending": pending,
            "rebalanced": self._rebalanced,
            "ceiling": self._ceiling,
            "state": next((state for state in WORST if state in self._states), None),
        }
        content = self._first.model_copy(update=found)
        size = _size(scope_id, content.endpoint, content.pod)
        weight = _weight(active + self._in_flight, self._ceiling)
        return _Row(scope_id, weight, size, partial(_with_ids, content), [*self._ids], [*waits])


def _rows(scope: Scope, tunnels: Mapping[tuple[str, str], int], now: float) -> Iterator[_Row | None]:
    """The rows of a scope; None where there is none, and the loop may have its turn."""
    if (
        scope.new
        or scope.moved
        or scope.restarted
        or scope.rejected
        or scope.ended
        or scope.clashes
        or scope.sessions.places
    ):
        counts = ScopeReport(
            new=scope.new,
            moved=scope.moved,
            expired=scope.expired,
            rejected=scope.rejected,
            restarted=scope.restarted,
            ended=dict(scope.ended),
            clashes=scope.clashes,
        )
        yield _counts(scope.id, counts)
    for departed in tuple(scope.sessions.departures):
        departure = Departure(
            time=departed.time,
            endpoint=departed.endpoint,
            pod=departed.pod,
            reason=departed.reason,
            dropped=departed.dropped,
            moved=departed.moved,
        )
        yield _departure(scope.id, departure, tuple(departed.ids), now)
    quota = scope.sessions.quota
    pending = quota.pending() if quota is not None else {}
    for endpoint in scope.endpoints:
        ids = sessions_at(scope, endpoint)
        waits = pending.get(endpoint.id, ())
        open_tunnels = tunnels.get((scope.id, endpoint.id), 0)
        found = _sessions(scope, endpoint, now, active=len(ids), pending=len(waits), tunnels=open_tunnels)
        if ids or found.in_flight or found.state or found.rebalanced or found.ceiling is not None:
            size = _size(scope.id, endpoint.id, endpoint.pod)
            weight = _weight(len(ids) + found.in_flight, found.ceiling)
            yield _Row(scope.id, weight, size, partial(_with_ids, found), ids, waits)
        else:
            yield None


def _sessions(
    scope: Scope, endpoint: Endpoint, now: float, *, active: int, pending: int, tunnels: int
) -> EndpointSessions:
    """All of the row but its ids."""
    state, quota = endpoint.found(now), scope.sessions.quota
    placed = 0
    ceiling = None
    if quota is not None:
        state = state or quota.state(endpoint, now)
        if quota.limits.sessions:
            placed = quota.placed(endpoint)
            ceiling = quota.ceiling(endpoint)
    return EndpointSessions(
        endpoint=endpoint.id,
        pod=endpoint.pod,
        service=endpoint.service,
        active=active,
        in_flight=scope.requests_at(endpoint),
        placed=placed,
        pending=pending,
        ceiling=ceiling,
        rebalanced=0 if scope.mover is None else scope.mover.moved(endpoint),
        tunnels=tunnels,
        state=state,
    )


def _with_ids(sessions: EndpointSessions, ids: str, pending: str) -> EndpointSessions:
    return sessions.model_copy(update={"ids": ids, "pending_ids": pending})


def _weight(busy: int, ceiling: int | None) -> float:
    """Where there is a limit the row says how much of it is left, busy or not."""
    return busy if ceiling is None else 1e12 + busy


def sessions_at(scope: Scope, endpoint: Endpoint) -> Sequence[bytes]:
    """The sessions at an endpoint; those of a cohort are shared out among all of it, for none has its own."""
    name = scope.name(endpoint)
    place = scope.sessions.places.get(name)
    if place is None:
        return ()
    shared = scope.named.get(name, ())
    if len(shared) < 2:
        return tuple(place.sessions)
    if scope.policy.bind_to != "Cohort":
        return tuple(place.sessions) if endpoint.key == shared[0].key else ()
    keys = sorted(one.key for one in shared if one.keep_until) or sorted(one.key for one in shared)
    return [one for one in place.sessions if keys[one[-1] % len(keys)] == endpoint.key]


def _counts(scope_id: str, counts: ScopeReport) -> _Row:
    size = _size(scope_id, *counts.clashes)
    size += _END_BYTES * len(counts.ended) + _CLASH_BYTES * len(counts.clashes)
    return _Row(scope_id, 3e12, size, lambda _ids, _pending: counts)


def _departure(scope_id: str, departure: Departure, ids: Sequence[bytes], now: float) -> _Row:
    size = _size(scope_id, departure.endpoint, departure.pod)
    weight = 2e12 - (now - departure.time)
    return _Row(scope_id, weight, size, lambda ids, _: departure.model_copy(update={"ids": ids}), ids)


def _size(*texts: str) -> int:
    return _ROW_BYTES + sum(map(len, texts))


def _added(one: ScopeReport, other: ScopeReport) -> ScopeReport:
    return ScopeReport(
        new=one.new + other.new,
        moved=one.moved + other.moved,
        expired=one.expired + other.expired,
        rejected=one.rejected + other.rejected,
        restarted=one.restarted + other.restarted,
        ended=Counter(one.ended) + Counter(other.ended),
        clashes=together(one.clashes, other.clashes),
    )


def _fitted(
    rows: Iterable[_Row | None],
    limit: int,
    proxy: str,
    started: float,
    version: Version,
    *,
    leased: tuple[int, int],
) -> Steps[AffinityReport]:
    """The report of the rows for which there is room; `limit` is what their ids were sampled by."""
    best: list[_Row] = []
    for row in rows:
        if row is not None:
            best.append(row)
            if len(best) >= 2 * _MAX_ROWS:
                _keep_best(best)
        yield
    _keep_best(best)
    room = _ROWS_BYTES
    taken: list[_Row] = []
    for row in best:
        if row.size > room:
            break
        room -= row.size
        taken.append(row)
    count = sum(len(row.ids) + len(row.pending) for row in taken)
    limit = _limit(count, MAX_BYTES - _ROWS_BYTES + room, limit)
    found: dict[str, tuple[list[ScopeReport], list[EndpointSessions], list[Departure]]] = {}
    for row in taken:
        counts, endpoints, departures = found.setdefault(row.scope, ([], [], []))
        ids, pending = (yield from _carried(row.ids, limit)), (yield from _carried(row.pending, limit))
        made = row.make(ids, pending)
        if isinstance(made, ScopeReport):
            counts.append(made)
        elif isinstance(made, EndpointSessions):
            endpoints.append(made)
        else:
            departures.append(made)
        yield
    scopes = {}
    for scope_id, (counts, endpoints, departures) in found.items():
        update = {"endpoints": tuple(endpoints), "departures": tuple(departures)}
        scopes[scope_id] = (counts[0] if counts else ScopeReport()).model_copy(update=update)
        yield
    return AffinityReport(
        proxy=proxy,
        started=started,
        epoch=version.epoch,
        revision=version.revision,
        leased=leased,
        sample=limit / _ALL,
        scopes=scopes,
    )


def _keep_best(rows: list[_Row]) -> None:
    """Heaviest first; those for which there is no room in any case are left out."""
    rows.sort(key=lambda row: row.weight, reverse=True)
    del rows[_MAX_ROWS:]


def _limit(count: int, room: int, limit: int) -> int:
    """Ids whose first byte is below it are carried in so many bytes, of those that were below `limit`."""
    fitting = room * 3 // (4 * ID_BYTES)
    if count <= fitting:
        return limit
    return max(1, floor(limit * _MARGIN * fitting / count))


def _carried(ids: Sequence[bytes], limit: int) -> Steps[str]:
    parts = []
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        parts.append(b"".join(part if limit == _ALL else [one for one in part if one[0] < limit]))
        yield
    return base64.b64encode(b"".join(parts)).decode()


def _ids(text: str, limit: int) -> list[bytes]:
    content = base64.b64decode(text)
    return [
        content[start : start + ID_BYTES]
        for start in range(0, len(content), ID_BYTES)
        if content[start] < limit
    ]
