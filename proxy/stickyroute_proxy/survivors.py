"""The sessions that ended workers knew: they live on with their clients, who bring them to others. Pure."""

from collections import deque
from typing import Final

from stickyroute_api.affinity import AffinityReport, EndpointSessions, ScopeReport, windows
from stickyroute_api.snapshot import Snapshot

MAX_ENDED: Final = 16
"""How many ended workers' sessions are remembered, the newest."""


class Survivors:
    """As the workers told of them last: a drain waits for sessions that nobody has brought back yet."""

    def __init__(self) -> None:
        self._left: deque[tuple[float, AffinityReport]] = deque(maxlen=MAX_ENDED)

    def add(self, last: AffinityReport, now: float) -> None:
        """Remember the sessions of a worker that has ended, by what it reported last."""
        self._left.append((now, last))

    def told(self, snapshot: Snapshot, now: float) -> list[AffinityReport]:
        """The reports of those that may still come back: their timers run, their endpoints are served."""
        if not self._left:
            return []
        lasting = windows(snapshot)
        longest = max(lasting.values(), default=0.0)
        while self._left and now - self._left[0][0] >= longest:
            self._left.popleft()
        served = {one.id for endpoints in snapshot.endpoints.values() for one in endpoints}
        return [
            last.model_copy(
                update={
                    "scopes": {
                        name: ScopeReport(
                            endpoints=tuple(
                                _sessions(one) for one in scope.endpoints if one.endpoint in served
                            )
                        )
                        for name, scope in last.scopes.items()
                        if now - ended < lasting.get(name, 0.0)
                    }
                }
            )
            for ended, last in self._left
        ]


def _sessions(told: EndpointSessions) -> EndpointSessions:
    """The row without what has ended with its worker, or counts elsewhere."""
    return EndpointSessions(
        endpoint=told.endpoint,
        pod=told.pod,
        service=told.service,
        active=told.active,
        in_flight=0,
        ids=told.ids,
    )
