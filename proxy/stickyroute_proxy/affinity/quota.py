"""What the pods of one scope take: whether this process may place another session on one of them.

Limits are the fleet's. What this process may fill of them it is told by leases; until it has one, its part of
the limit is its own. Only new sessions ask: those that are bound stay.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

from stickyroute_api.affinity import ID_BYTES
from stickyroute_api.leases import Lease
from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import SessionLimits
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.recent import until

PENDING_SECONDS: Final = 60.0
"""How long a session counts whose token has not come back: probes and bots never bring it."""
SETTLED: Final = 10.0
"""Seconds without room after which an endpoint is told of as AtLimit: shares of a limit come and go."""


class Count:
    """The new sessions of one endpoint."""

    __slots__ = ("endpoint", "full_since", "pending", "placed")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        """`Endpoint.id`."""
        self.placed = 0
        """Since the process began."""
        self.pending = 0
        """Of them, those whose token has not come back yet, and is still waited for."""
        self.full_since: float | None = None


class Quota:
    """The limits of one scope, and what counts towards them."""

    __slots__ = (
        "_at",
        "_counts",
        "_leases",
        "_moved",
        "_pending",
        "_requests_at",
        "limits",
        "sharers",
        "waiting",
    )

    limits: SessionLimits
    sharers: int
    """How many processes share the limits."""
    waiting: Any
    """The data path's exchanges that wait for room on any of the endpoints; None: none ever did."""

    def __init__(
        self, limits: SessionLimits, at: Callable[[Endpoint], int], requests_at: Callable[[Endpoint], int]
    ) -> None:
        """`at`: how many sessions are known at an endpoint; `requests_at`: in flight on its pod."""
        self.limits = limits
        self.sharers = 1
        self.waiting = None
        self._at = at
        self._requests_at = requests_at
        self._counts: dict[str, Count] = {}
        """By `Endpoint.id`."""
        self._leases: Mapping[str, Lease] = {}
        # Both in the order of time, by the first ID_BYTES of the session's id.
        self._pending: dict[bytes, tuple[Count, float]] = {}
        self._moved: dict[bytes, tuple[Endpoint, float]] = {}

    def obey(self, leases: Mapping[str, Lease]) -> None:
        """Go by these, by `Endpoint.id`; what they do not name goes on by what it had."""
        self._leases = {**self._leases, **leases}

    def forget(self, endpoints: frozenset[str]) -> None:
        """Keep what is known of these endpoints only."""
        self._counts = {name: count for name, count in self._counts.items() if name in endpoints}
        self._leases = {name: lease for name, lease in self._leases.items() if name in endpoints}

    def has_room(self, endpoint: Endpoint) -> bool:
        """Whether a new session may be placed there."""
        return self.left(endpoint) > 0

    def left(self, endpoint: Endpoint) -> float:
        """How many new sessions may be placed there."""
        left = self._places(endpoint)
        if self.limits.requests:
            lease = self._leases.get(endpoint.id)
            requests = lease.requests if lease is not None else None
            if requests is None:
                requests = self._own(self.limits.requests)
            left = min(left, requests - self._requests_at(endpoint))
        return left

    def has_place(self, endpoint: Endpoint) -> bool:
        """Whether a session that lost its pod had better be bound there.

        Requests in flight say nothing of that: they come and go, and each proxy's are others.
        """
        return self._places(endpoint) > 0

    def _places(self, endpoint: Endpoint) -> float:
        if not self.limits.sessions:
            return inf
        return self.ceiling(endpoint) - self._count(endpoint).placed

    def ceiling(self, endpoint: Endpoint) -> int:
        """New sessions are placed there while `placed` is below it."""
        lease = self._leases.get(endpoint.id)
        if lease is not None and lease.placed is not None:
            return lease.placed
        count = self._count(endpoint)
        present = self._at(endpoint) + count.pending
        return max(0, count.placed + self._own(self.limits.sessions) - present)

    def state(self, endpoint: Endpoint, now: float) -> EndpointState | None:
        """AtLimit, where there has been no room for a while."""
        count = self._count(endpoint)
        if self.has_room(endpoint):
            count.full_since = None
            return None
        if count.full_since is None:
            count.full_since = now
        return EndpointState.AT_LIMIT if now - count.full_since >= SETTLED else None

    def placed(self, endpoint: Endpoint) -> int:
        """How many new sessions were placed there."""
        return self._count(endpoint).placed

    def pending(self) -> dict[str, list[bytes]]:
        """The digests of those who have not come back yet, by `Endpoint.id`."""
        found: dict[str, list[bytes]] = {}
        for key, (count, _) in self._pending.items():
            found.setdefault(count.endpoint if self._holds(count) else "", []).append(key)
        return found

    def place(self, session: bytes, endpoint: Endpoint, now: float) -> None:
        """A new session begins there; it is pending until it comes back.

        One that begins there again, for its client shows an old key, has its place.
        """
        if not self.limits.sessions or self.began(session) == endpoint.id:
            return
        count = self._count(endpoint)
        count.placed += 1
        count.pending += 1
        self._pending[session[:ID_BYTES]] = count, now

    def began(self, session: bytes) -> str | None:
        """The endpoint, by `Endpoint.id`, where the session began, if it is pending there."""
        found = self._pending.get(session[:ID_BYTES])
        return found[0].endpoint if found is not None and self._holds(found[0]) else None

    def shift(self, session: bytes, endpoint: Endpoint) -> None:
        """A new session that was just placed begins there instead."""
        found = self._pending.get(session[:ID_BYTES])
        if found is not None:
            before, placed_at = found
            self.confirm(session[:ID_BYTES])
            before.placed -= 1
            self.place(session, endpoint, placed_at)

    def confirm(self, key: bytes) -> None:
        """The session of that digest has come back, or is waited for no more."""
        found = self._pending.pop(key, None)
        if found is not None:
            found[0].pending -= 1

    def move(self, session: bytes, endpoint: Endpoint, now: float) -> None:
        """A session that lost its pod is bound there, with room or without."""
        if self.limits.sessions:
            self._count(endpoint).placed += 1
            self._moved[session[:ID_BYTES]] = endpoint, now

    def moved(self, session: bytes) -> Endpoint | None:
        """Where a session that lost its pod was bound lately: its other requests follow."""
        found = self._moved.get(session[:ID_BYTES])
        return None if found is None else found[0]

    def expire(self, now: float) -> None:
        """Wait no more for those who have not come back in time: who lends, or the own part, takes note."""
        oldest = now - PENDING_SECONDS
        for key in until(self._pending, oldest):
            self.confirm(key)
        for key in until(self._moved, oldest):
            del self._moved[key]

    def _holds(self, count: Count) -> bool:
        """Whether it still counts: its endpoint may have left, and come back."""
        return self._counts.get(count.endpoint) is count

    def _count(self, endpoint: Endpoint) -> Count:
        count = self._counts.get(endpoint.id)
        if count is None:
            count = self._counts[endpoint.id] = Count(endpoint.id)
        return count

    def _own(self, limit: int) -> int:
        """The part of a limit that is this process's own; none is so small that it could serve nobody."""
        return max(1, limit // self.sharers)
