"""A snapshot as JSON, encoded piece by piece.

Snapshots that follow one another share nearly all their routes and endpoint sets, so each piece is encoded
once and a one-pod change costs one small piece. Encoding a whole snapshot at once would hold the event loop,
or the interpreter's lock, for as long as it takes.
"""

import asyncio
import json
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from stickyroute_api.snapshot import Endpoint, Route, Snapshot
from stickyroute_proxy.slices import Steps, in_slices

_ROUTE = TypeAdapter(Route)
_ENDPOINTS = TypeAdapter(tuple[Endpoint, ...])


@dataclass(slots=True)
class Encoder:
    """Encodes snapshots of one line of succession; remembers the pieces of the last one."""

    _routes: dict[str, tuple[Route, bytes]] = field(default_factory=dict)
    _endpoints: dict[str, tuple[tuple[Endpoint, ...], bytes]] = field(default_factory=dict)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def encode(self, snapshot: Snapshot) -> bytes:
        """The snapshot's JSON, made in slices."""
        async with self._one_at_a_time:
            await in_slices(self._refresh(snapshot))
            return self._join(snapshot)

    def _join(self, snapshot: Snapshot) -> bytes:
        head = snapshot.model_copy(update={"routes": {}, "endpoints": {}}).model_dump(mode="json")
        del head["routes"], head["endpoints"]
        routes = b",".join(self._routes[key][1] for key in snapshot.routes)
        endpoints = b",".join(self._endpoints[key][1] for key in snapshot.endpoints)
        return b'%b,"routes":{%b},"endpoints":{%b}}' % (json.dumps(head).encode()[:-1], routes, endpoints)

    def _refresh(self, snapshot: Snapshot) -> Steps[None]:
        """Bring the pieces up to the snapshot; yields after each one that had to be encoded."""
        for gone in self._routes.keys() - snapshot.routes.keys():
            del self._routes[gone]
        for gone in self._endpoints.keys() - snapshot.endpoints.keys():
            del self._endpoints[gone]
        for key, route in snapshot.routes.items():
            if (known := self._routes.get(key)) is None or known[0] is not route:
                self._routes[key] = route, _named(key, _ROUTE.dump_json(route))
                yield
        for key, endpoints in snapshot.endpoints.items():
            if (kept := self._endpoints.get(key)) is None or kept[0] is not endpoints:
                self._endpoints[key] = endpoints, _named(key, _ENDPOINTS.dump_json(endpoints))
                yield


def _named(key: str, encoded: bytes) -> bytes:
    return json.dumps(key).encode() + b":" + encoded
