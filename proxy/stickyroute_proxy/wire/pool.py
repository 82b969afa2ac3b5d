"""Idle connections to one endpoint, kept for the next request."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stickyroute_proxy.wire.upstream import Upstream

KEEP: Final = 4.0
"""Seconds that a connection is kept idle: below the 5 s after which common servers close theirs."""
FRESH: Final = 1.0
"""Seconds that it may have been idle for a request that must not be sent twice."""
MAX_IDLE: Final = 256
"""The most idle connections to one endpoint."""


class Pool:
    """Decides which connection is used again; newest first, so that the others age and go."""

    __slots__ = ("_idle", "_used", "closed")

    closed: bool
    """The endpoint has left: what listens at its address from now on may be another."""

    def __init__(self, used: Callable[["Pool"], None]) -> None:
        """`used` is told when the pool holds connections again."""
        self._idle: list[Upstream] = []
        self.closed = False
        self._used = used

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, now: float, repeatable: bool) -> "Upstream | None":
        """An idle connection, or None; `repeatable`: the request may be sent again if it turns out closed."""
        idle = self._idle
        oldest = now - (KEEP if repeatable else FRESH)
        while idle and idle[-1].idle_since >= oldest:
            upstream = idle.pop()
            if not upstream.closing:
                return upstream
        return None

    def put(self, upstream: "Upstream", now: float) -> bool:
        """Keep a connection whose exchange ended cleanly; False: it has to be closed instead."""
        if self.closed or len(self._idle) >= MAX_IDLE:
            return False
        if not self._idle:
            self._used(self)
        upstream.idle_since = now
        self._idle.append(upstream)
        return True

    def drop(self, upstream: "Upstream") -> None:
        """Forget a connection that closed while idle."""
        if upstream in self._idle:
            self._idle.remove(upstream)

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        oldest = now - KEEP
        stale = 0
        for upstream in self._idle:
            if upstream.idle_since >= oldest:
                break
            stale += 1
        gone, self._idle[:stale] = self._idle[:stale], []
        for upstream in gone:
            upstream.close()

    def close(self) -> None:
        """The endpoint has left: close what is idle, keep nothing from now on."""
        self.closed = True
        gone, self._idle = self._idle, []
        for upstream in gone:
            upstream.close()
