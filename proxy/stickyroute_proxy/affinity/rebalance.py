"""Which idle sessions move to a pod that has fewer, when they come back: as many as leases allow.

That a session was idle is read from its token: while it is used, some proxy seals it anew.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from stickyroute_api import snapshot
from stickyroute_api.affinity import ID_BYTES
from stickyroute_api.leases import Moves
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.recent import until
from stickyroute_proxy.affinity.token import LONG_LIVED, Binding

if TYPE_CHECKING:
    from stickyroute_proxy.affinity.rule import Rule

KEPT: Final = 900.0
"""Seconds for which a session's requests with an old token follow it."""


class Mover:
    """What may be moved of one scope, and what was."""

    __slots__ = ("_leases", "_moved", "_targets", "idle_for")

    idle_for: float

    def __init__(self, policy: snapshot.Rebalance) -> None:
        self.idle_for = policy.idle_for
        self._leases: Mapping[str, Moves] = {}
        self._moved: dict[str, int] = {}
        """Sessions that were moved away, by `Endpoint.id`."""
        self._targets: dict[bytes, tuple[Endpoint, float]] = {}
        """By session, in the order of time: where it was moved to, and when."""

    def obey(self, leases: Mapping[str, Moves]) -> None:
        """Move so many in all, by `Endpoint.id`; none from those that are not named."""
        self._leases = leases

    def forget(self, endpoints: frozenset[str]) -> None:
        """Keep what is known of these endpoints only, by `Endpoint.id`."""
        self._moved = {name: count for name, count in self._moved.items() if name in endpoints}
        self._leases = {name: lease for name, lease in self._leases.items() if name in endpoints}

    def moved(self, endpoint: Endpoint) -> int:
        """How many sessions were moved away from it."""
        return self._moved.get(endpoint.id, 0)

    def moves(self, rule: "Rule", binding: Binding, now: float) -> bool:
        """Whether the session of a binding that holds is to be served elsewhere from now on."""
        if binding.flags & LONG_LIVED:
            return False
        found = self._targets.get(binding.session[:ID_BYTES])
        if found is not None and binding.bound < found[1]:
            return True
        scope = rule.scope
        if now - binding.sealed < self.idle_for + scope.reseal:
            return False
        own = rule.named[binding.endpoint][0]
        lease = self._leases.get(own.id)
        if lease is None or self.moved(own) >= lease.sessions:
            return False
        target = _emptier(rule, own)
        if target is None:
            return False
        self._moved[own.id] = self.moved(own) + 1
        self._targets[binding.session[:ID_BYTES]] = target, now
        return True

    def target(self, session: bytes) -> Endpoint | None:
        """Where a session was moved to."""
        found = self._targets.get(session[:ID_BYTES])
        return None if found is None else found[0]

    def expire(self, now: float) -> None:
        """Forget moves of long ago."""
        for key in until(self._targets, now - KEPT):
            del self._targets[key]


def _emptier(rule: "Rule", own: Endpoint) -> Endpoint | None:
    """The endpoint of the same backend with the fewest sessions known here; None: none has fewer."""
    at, takes = rule.scope.sessions.at, rule.balancer.takes
    for backend in rule.balancer.pool:
        if own in backend.eligible:
            best = min((one for one in backend.eligible if takes(one)), key=at, default=own)
            return best if at(best) + 1 < at(own) else None
    return None
