"""The affinity report: what this proxy knows of sessions and moves, for the operator.

Made in steps (`slices`), while requests wait for the loop.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from math import floor
from types import MappingProxyType
from typing import Final, NamedTuple

from stickyroute_api.affinity import ID_BYTES, AffinityReport, Departure, EndpointSessions, ScopeReport
from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Version
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.sessions import DEPARTURE_SECONDS
from stickyroute_proxy.slices import Steps
from stickyroute_proxy.table import Scope, Table

MAX_BYTES: Final = 256_000
"""The size in JSON that a report does not exceed."""

_ROWS_BYTES: Final = 150_000
"""What rows may take of it; the ids have the rest."""
_ROW_BYTES: Final = 200
"""What a row takes beside its texts, at most."""
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
    make: Callable[[str], EndpointSessions | Departure | ScopeReport]
    """The row with these ids, made once it is clear that there is room for it."""
    ids: Sequence[bytes] = ()


def report(
    table: Table,
    proxy: str,
    started: float,
    now: float,
    tunnels: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> Steps[AffinityReport]:
    """What the proxy of that name, which runs since `started`, knows at `now`.

    `tunnels`: those that are open, by scope and `Endpoint.id`.

    Scopes and endpoints without activity are left out. When there are too many rows, the least busy
    endpoints go, then the oldest departures, then scopes; when there are too many sessions, `sample` says
    which share of their ids is carried.

    Requests go on between two steps, so rows are of slightly different moments: within each, `active` is the
    number of its ids; a session that moves meanwhile may be in two of them, or in none.
    """
    table.known.second = now
    scopes = tuple(table.scopes.values())
    rows = (row for scope in scopes for row in _rows(scope, tunnels, now))
    return _fitted(rows, _ALL, proxy, started, table.version)


def merge(
    reports: Iterable[AffinityReport], proxy: str, started: float, version: Version, now: float
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
                endpoints.setdefault(key, _Merged(sessions)).add(sessions, _ids(sessions.ids, limit))
                yield
            yield
    rows = chain(
        (_counts(scope_id, scope) for scope_id, scope in counts.items()),
        departed,
        (merged.row(scope_id) for (scope_id, _), merged in endpoints.items()),
    )
    return (yield from _fitted(rows, limit, proxy, started, version))


def ended(told: AffinityReport) -> AffinityReport:
    """What a worker's last report still says when it has ended: it holds no sessions."""
    left = {key: scope.model_copy(update={"endpoints": ()}) for key, scope in told.scopes.items()}
    return told.model_copy(update={"scopes": left})


class _Merged:
    """One endpoint of a scope as several workers know it."""

    def __init__(self, first: EndpointSessions) -> None:
        self._first = first
        self._stated = self._in_flight = self._tunnels = self._carried = 0
        self._state: EndpointState | None = None
        self._ids: set[bytes] = set()

    def add(self, sessions: EndpointSessions, ids: Sequence[bytes]) -> None:
        self._stated += sessions.active
        self._in_flight += sessions.in_flight
        self._tunnels += sessions.tunnels
        self._state = self._state or sessions.state
        self._carried += len(ids)
        self._ids.update(ids)

    def row(self, scope_id: str) -> _Row:
        # without overlap the stated number stays exact, sampled or not
        active = round(self._stated * len(self._ids) / self._carried) if self._carried else self._stated
        found = {
            "active": active,
            "in_flight": self._in_flight,
            "tunnels": self._tunnels,
            "state": self._state,
        }
        content = self._first.model_copy(update=found)
        size = _size(scope_id, content.endpoint, content.pod)
        weight = active + self._in_flight
        return _Row(scope_id, weight, size, lambda ids: content.model_copy(update={"ids": ids}), [*self._ids])


def _rows(scope: Scope, tunnels: Mapping[tuple[str, str], int], now: float) -> Iterator[_Row | None]:
    """The rows of a scope; None where there is none, and the loop may have its turn."""
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
    for endpoint in scope.endpoints:
        ids = sessions_at(scope, endpoint)
        state = endpoint.found(now)
        if ids or endpoint.in_flight or state:
            in_flight = endpoint.in_flight
            of_them = tunnels.get((scope.id, endpoint.id), 0)
            make = partial(_sessions, endpoint, len(ids), in_flight, tunnels=of_them, state=state)
            size = _size(scope.id, endpoint.id, endpoint.pod)
            yield _Row(scope.id, len(ids) + in_flight, size, make, ids)
        else:
            yield None


def _sessions(
    endpoint: Endpoint, active: int, in_flight: int, ids: str, *, tunnels: int, state: EndpointState | None
) -> EndpointSessions:
    return EndpointSessions(
        endpoint=endpoint.id,
        pod=endpoint.pod,
        service=endpoint.service,
        active=active,
        in_flight=in_flight,
        tunnels=tunnels,
        state=state,
        ids=ids,
    )


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
    return _Row(scope_id, 3e12, _size(scope_id), lambda _ids: counts)


def _departure(scope_id: str, departure: Departure, ids: Sequence[bytes], now: float) -> _Row:
    size = _size(scope_id, departure.endpoint, departure.pod)
    weight = 2e12 - (now - departure.time)
    return _Row(scope_id, weight, size, lambda ids: departure.model_copy(update={"ids": ids}), ids)


def _size(*texts: str) -> int:
    return _ROW_BYTES + sum(map(len, texts))


def _added(one: ScopeReport, other: ScopeReport) -> ScopeReport:
    return ScopeReport(
        new=one.new + other.new,
        moved=one.moved + other.moved,
        expired=one.expired + other.expired,
        rejected=one.rejected + other.rejected,
        restarted=one.restarted + other.restarted,
    )


def _fitted(
    rows: Iterable[_Row | None], limit: int, proxy: str, started: float, version: Version
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
        room -= row.size
        if room < 0:
            break
        taken.append(row)
    limit = _limit(sum(len(row.ids) for row in taken), limit)
    found: dict[str, tuple[list[ScopeReport], list[EndpointSessions], list[Departure]]] = {}
    for row in taken:
        counts, endpoints, departures = found.setdefault(row.scope, ([], [], []))
        made = row.make((yield from _carried(row.ids, limit)))
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
        sample=limit / _ALL,
        scopes=scopes,
    )


def _keep_best(rows: list[_Row]) -> None:
    """Heaviest first; those for which there is no room in any case are left out."""
    rows.sort(key=lambda row: row.weight, reverse=True)
    del rows[_MAX_ROWS:]


def _limit(count: int, limit: int) -> int:
    """Ids whose first byte is below it are carried, of so many that were below `limit`."""
    fitting = (MAX_BYTES - _ROWS_BYTES) * 3 // (4 * ID_BYTES)
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
