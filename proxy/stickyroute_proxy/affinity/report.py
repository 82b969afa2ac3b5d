"""The affinity report: what this proxy knows of sessions and moves, for the operator."""

import base64
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import floor
from types import MappingProxyType
from typing import Final, NamedTuple

from stickyroute_api.affinity import ID_BYTES, AffinityReport, Departure, EndpointSessions, ScopeReport
from stickyroute_api.snapshot import Version
from stickyroute_proxy.affinity.sessions import DEPARTURE_SECONDS
from stickyroute_proxy.table import Endpoint, Scope, Table

MAX_BYTES: Final = 256_000
"""The size in JSON that a report does not exceed."""

_ROWS_BYTES: Final = 150_000
"""What rows may take of it; the ids have the rest."""
_ROW_BYTES: Final = 200
"""What a row takes beside its texts, at most."""
_MARGIN: Final = 0.9
"""The share of the room that ids are planned for: a sample is seldom exact."""
_ALL: Final = 256
"""The limit of an id's first byte that lets all ids pass."""


class _Row(NamedTuple):
    """An endpoint of a scope, or a departure from one, or the counts of the scope alone."""

    scope: str
    weight: float
    """Rows of less weight are left out first."""
    content: EndpointSessions | Departure | ScopeReport
    ids: Collection[bytes] = ()

    def size(self) -> int:
        size = _ROW_BYTES + len(self.scope)
        if isinstance(self.content, ScopeReport):
            return size
        return size + len(self.content.endpoint) + len(self.content.pod)


def report(
    table: Table,
    proxy: str,
    started: float,
    now: float,
    tunnels: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> AffinityReport:
    """What the proxy of that name, which runs since `started`, knows at `now`.

    `tunnels`: those that are open, by scope and `Endpoint.id`.

    Scopes and endpoints without activity are left out. When there are too many rows, the least busy
    endpoints go, then the oldest departures, then scopes; when there are too many sessions, `sample` says
    which share of their ids is carried.
    """
    table.known.second = now
    rows = (row for scope in table.scopes.values() for row in _rows(scope, tunnels, now))
    return _fitted(rows, _ALL, proxy, started, table.version)


def merge(
    reports: Iterable[AffinityReport], proxy: str, started: float, version: Version, now: float
) -> AffinityReport:
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
            departed += [
                _departure(scope_id, departure, _ids(departure.ids, limit), now)
                for departure in scope.departures
                if departure.time + DEPARTURE_SECONDS > now
            ]
            for sessions in scope.endpoints:
                key = scope_id, sessions.endpoint
                endpoints.setdefault(key, _Merged(sessions)).add(sessions, _ids(sessions.ids, limit))
    rows = [_counts(scope_id, scope) for scope_id, scope in counts.items()]
    rows += departed
    rows += [merged.row(scope_id) for (scope_id, _), merged in endpoints.items()]
    return _fitted(rows, limit, proxy, started, version)


def ended(told: AffinityReport) -> AffinityReport:
    """What a worker's last report still says when it has ended: it holds no sessions."""
    left = {key: scope.model_copy(update={"endpoints": ()}) for key, scope in told.scopes.items()}
    return told.model_copy(update={"scopes": left})


class _Merged:
    """One endpoint of a scope as several workers know it."""

    def __init__(self, first: EndpointSessions) -> None:
        self._first = first
        self._stated = self._in_flight = self._tunnels = self._carried = 0
        self._ids: set[bytes] = set()

    def add(self, sessions: EndpointSessions, ids: Sequence[bytes]) -> None:
        self._stated += sessions.active
        self._in_flight += sessions.in_flight
        self._tunnels += sessions.tunnels
        self._carried += len(ids)
        self._ids.update(ids)

    def row(self, scope_id: str) -> _Row:
        # without overlap the stated number stays exact, sampled or not
        active = round(self._stated * len(self._ids) / self._carried) if self._carried else self._stated
        content = self._first.model_copy(
            update={"active": active, "in_flight": self._in_flight, "tunnels": self._tunnels}
        )
        return _endpoint(scope_id, content, self._ids)


def _rows(scope: Scope, tunnels: Mapping[tuple[str, str], int], now: float) -> Iterator[_Row]:
    if (
        scope.new
        or scope.moved
        or scope.restarted
        or scope.expired
        or scope.rejected
        or scope.sessions.places
    ):
        counts = ScopeReport(
            new=scope.new,
            moved=scope.moved,
            expired=scope.expired,
            rejected=scope.rejected,
            restarted=scope.restarted,
        )
        yield _counts(scope.id, counts)
    for departed in scope.sessions.departures:
        departure = Departure(
            time=departed.time,
            endpoint=departed.endpoint,
            pod=departed.pod,
            reason=departed.reason,
            dropped=departed.dropped,
            moved=departed.moved,
        )
        yield _departure(scope.id, departure, departed.ids, now)
    for endpoint in scope.endpoints:
        ids = sessions_at(scope, endpoint)
        if ids or endpoint.in_flight:
            sessions = EndpointSessions(
                endpoint=endpoint.id,
                pod=endpoint.pod,
                service=endpoint.service,
                active=len(ids),
                in_flight=endpoint.in_flight,
                tunnels=tunnels.get((scope.id, endpoint.id), 0),
            )
            yield _endpoint(scope.id, sessions, ids)


def sessions_at(scope: Scope, endpoint: Endpoint) -> Collection[bytes]:
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
    return _Row(scope_id, 3e12, counts)


def _departure(scope_id: str, departure: Departure, ids: Collection[bytes], now: float) -> _Row:
    return _Row(scope_id, 2e12 - (now - departure.time), departure, ids)


def _endpoint(scope_id: str, sessions: EndpointSessions, ids: Collection[bytes]) -> _Row:
    return _Row(scope_id, sessions.active + sessions.in_flight, sessions, ids)


def _added(one: ScopeReport, other: ScopeReport) -> ScopeReport:
    return ScopeReport(
        new=one.new + other.new,
        moved=one.moved + other.moved,
        expired=one.expired + other.expired,
        rejected=one.rejected + other.rejected,
        restarted=one.restarted + other.restarted,
    )


def _fitted(rows: Iterable[_Row], limit: int, proxy: str, started: float, version: Version) -> AffinityReport:
    """The report of the rows for which there is room; `limit` is what their ids were sampled by."""
    room = _ROWS_BYTES
    taken: dict[str, list[_Row]] = {}
    for row in sorted(rows, key=lambda row: row.weight, reverse=True):
        room -= row.size()
        if room < 0:
            break
        taken.setdefault(row.scope, []).append(row)
    limit = _limit(sum(len(row.ids) for found in taken.values() for row in found), limit)
    return AffinityReport(
        proxy=proxy,
        started=started,
        epoch=version.epoch,
        revision=version.revision,
        sample=limit / _ALL,
        scopes={scope_id: _scope(found, limit) for scope_id, found in taken.items()},
    )


def _limit(count: int, limit: int) -> int:
    """Ids whose first byte is below it are carried, of so many that were below `limit`."""
    fitting = (MAX_BYTES - _ROWS_BYTES) * 3 // (4 * ID_BYTES)
    if count <= fitting:
        return limit
    return max(1, floor(limit * _MARGIN * fitting / count))


def _scope(rows: list[_Row], limit: int) -> ScopeReport:
    counts = ScopeReport()
    endpoints = []
    departures = []
    for row in rows:
        if isinstance(row.content, ScopeReport):
            counts = row.content
        elif isinstance(row.content, EndpointSessions):
            endpoints.append(row.content.model_copy(update={"ids": _carried(row.ids, limit)}))
        else:
            departures.append(row.content.model_copy(update={"ids": _carried(row.ids, limit)}))
    return counts.model_copy(update={"endpoints": tuple(endpoints), "departures": tuple(departures)})


def _carried(ids: Collection[bytes], limit: int) -> str:
    chosen = ids if limit == _ALL else [one for one in ids if one[0] < limit]
    return base64.b64encode(b"".join(chosen)).decode()


def _ids(text: str, limit: int) -> list[bytes]:
    content = base64.b64decode(text)
    return [
        content[start : start + ID_BYTES]
        for start in range(0, len(content), ID_BYTES)
        if content[start] < limit
    ]
