"""The affinity report: what this proxy knows of sessions and moves, for the operator."""

import base64
from collections.abc import Iterator, Sequence
from math import floor
from typing import Final, NamedTuple

from stickyroute_api.affinity import ID_BYTES, AffinityReport, Departure, EndpointSessions, ScopeReport
from stickyroute_proxy.table import Scope, Table

MAX_BYTES: Final = 256_000
"""The size in JSON that a report does not exceed."""

_ROWS_BYTES: Final = 150_000
"""What rows may take of it; the ids have the rest."""
_ROW_BYTES: Final = 200
"""What a row takes beside its texts, at most."""
_MARGIN: Final = 0.9
"""The share of the room that ids are planned for: a sample is seldom exact."""


class _Row(NamedTuple):
    """An endpoint of a scope, or a departure from one; without either, the counts of the scope alone."""

    scope: Scope
    weight: float
    """Rows of less weight are left out first."""
    content: EndpointSessions | Departure | None
    ids: Sequence[bytes]

    def size(self) -> int:
        size = _ROW_BYTES + len(self.scope.id)
        return size if self.content is None else size + len(self.content.endpoint) + len(self.content.pod)


def report(table: Table, proxy: str, started: float, now: float) -> AffinityReport:
    """What the proxy of that name, which runs since `started`, knows at `now`.

    Scopes and endpoints without activity are left out. When there are too many rows, the least busy
    endpoints go, then the oldest departures, then scopes; when there are too many sessions, `sample` says
    which share of their ids is carried.
    """
    table.known.second = now
    rows = sorted(
        (row for scope in table.scopes.values() for row in _rows(scope, now)),
        key=lambda row: row.weight,
        reverse=True,
    )
    room = _ROWS_BYTES
    taken: dict[str, list[_Row]] = {}
    for row in rows:
        room -= row.size()
        if room < 0:
            break
        taken.setdefault(row.scope.id, []).append(row)
    limit = _limit(sum(len(row.ids) for found in taken.values() for row in found))
    return AffinityReport(
        proxy=proxy,
        started=started,
        epoch=table.version.epoch,
        revision=table.version.revision,
        sample=limit / 256,
        scopes={scope_id: _scope(found, limit) for scope_id, found in taken.items()},
    )


def _rows(scope: Scope, now: float) -> Iterator[_Row]:
    if scope.new or scope.moved or scope.expired or scope.rejected or scope.sessions.places:
        yield _Row(scope, 3e12, None, ())
    for departed in scope.sessions.departures:
        content = Departure(
            time=departed.time,
            endpoint=departed.endpoint,
            pod=departed.pod,
            reason=departed.reason,
            dropped=departed.dropped,
            moved=departed.moved,
        )
        yield _Row(scope, 2e12 - (now - departed.time), content, departed.ids)
    for endpoint in scope.members.values():
        place = scope.sessions.places.get(endpoint.key)
        ids = () if place is None else tuple(place.sessions)
        if ids or endpoint.in_flight:
            row = EndpointSessions(
                endpoint=endpoint.id,
                pod=endpoint.pod,
                service=endpoint.service,
                active=len(ids),
                in_flight=endpoint.in_flight,
            )
            yield _Row(scope, len(ids) + endpoint.in_flight, row, ids)


def _limit(count: int) -> int:
    """Ids whose first byte is below it are carried: 256 for all."""
    fitting = (MAX_BYTES - _ROWS_BYTES) * 3 // (4 * ID_BYTES)
    if count <= fitting:
        return 256
    return max(1, floor(256 * _MARGIN * fitting / count))


def _scope(rows: list[_Row], limit: int) -> ScopeReport:
    scope = rows[0].scope
    endpoints = []
    departures = []
    for row in rows:
        if isinstance(row.content, EndpointSessions):
            endpoints.append(row.content.model_copy(update={"ids": _carried(row.ids, limit)}))
        elif isinstance(row.content, Departure):
            departures.append(row.content.model_copy(update={"ids": _carried(row.ids, limit)}))
    return ScopeReport(
        new=scope.new,
        moved=scope.moved,
        expired=scope.expired,
        rejected=scope.rejected,
        endpoints=tuple(endpoints),
        departures=tuple(departures),
    )


def _carried(ids: Sequence[bytes], limit: int) -> str:
    chosen = ids if limit == 256 else [one for one in ids if one[0] < limit]
    return base64.b64encode(b"".join(chosen)).decode()
