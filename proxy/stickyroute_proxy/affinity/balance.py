"""Placing new sessions: the backend by smooth weighted round robin, the endpoint by the rule's algorithm."""

from collections.abc import Collection, Iterable, Iterator
from random import Random
from typing import Final

from stickyroute_api import snapshot
from stickyroute_api.reasons import EndpointState
from stickyroute_proxy.affinity.endpoint import Endpoint

_TIERS: Final = (
    (EndpointState.SERVING, False),
    (EndpointState.JOINING, False),
    (EndpointState.DRAINING, True),
    (EndpointState.NOT_READY, True),
)
"""Who takes new sessions, best first; True: only endpoints that can still answer."""


class Backend:
    """A weighted Service of a rule, and where its round robin stands."""

    __slots__ = ("cursor", "eligible", "endpoints", "lead", "service", "set_id", "share", "weight")

    service: str
    set_id: str
    """The snapshot's key of its endpoints."""
    weight: int
    endpoints: tuple[Endpoint, ...]
    eligible: tuple[Endpoint, ...]
    """Those that take new sessions now."""
    share: int
    """The weight that counts among the backends with eligible endpoints."""
    lead: int
    """How far it is ahead of its share: smooth weighted round robin's running value."""
    cursor: int
    """The round robin's next endpoint."""

    def __init__(self, service: str, set_id: str, random: Random) -> None:
        self.service = service
        self.set_id = set_id
        self.weight = 0
        self.endpoints = ()
        self.eligible = ()
        self.share = 0
        self.lead = 0
        # Proxies that start together would otherwise all begin with the same pod.
        self.cursor = random.randrange(1 << 16)


class Balancer:
    """What places the new sessions of one rule."""

    __slots__ = ("backends", "least_requests", "pool")

    backends: tuple[Backend, ...]
    least_requests: bool
    pool: tuple[Backend, ...]
    """The backends that take new sessions now."""

    def __init__(self) -> None:
        self.backends = ()
        self.least_requests = False
        self.pool = ()

    def take(self, rule: snapshot.Rule, random: Random) -> None:
        """Follow the rule's backends and algorithm; those it had before go on where they stand."""
        before = {backend.set_id: backend for backend in self.backends}
        self.least_requests = rule.balancing.algorithm == "LeastRequests"
        taken = []
        for given in rule.backends:
            backend = before.pop(given.endpoints, None) or Backend(given.service, given.endpoints, random)
            backend.weight = given.weight
            taken.append(backend)
        self.backends = tuple(taken)

    def refresh(self) -> None:
        """Find anew who takes new sessions, after backends or endpoint states changed."""
        before = [(backend, backend.share) for backend in self.pool]
        tier = next(tiers(self.backends, ()), ())
        for backend, share, endpoints in tier:
            backend.share = share
            backend.eligible = endpoints
        self.pool = tuple(backend for backend, _, _ in tier)
        if [(backend, backend.share) for backend in self.pool] != before:
            for backend in self.pool:
                backend.lead = 0

    def pick(self, random: Random) -> Endpoint | None:
        """The endpoint of the next new session; None when nothing can serve."""
        pool = self.pool
        if not pool:
            return None
        backend = pool[0] if len(pool) == 1 else smooth(pool)
        endpoints = backend.eligible
        if self.least_requests:
            return less_busy(endpoints, random)
        at = backend.cursor % len(endpoints)
        backend.cursor = at + 1
        return endpoints[at]

    def pick_roomy(self, room: int, tried: Collection[Endpoint], random: Random) -> Endpoint | None:
        """An endpoint for a new session with fewer than `room` requests in flight, and none of `tried`."""
        roomy = [
            (backend.share, endpoints)
            for backend in self.pool
            if (
                endpoints := tuple(
                    one
                    for one in backend.eligible
                    if one.in_flight < room and not one.queue and one not in tried
                )
            )
        ]
        if not roomy:
            return None
        ((_, endpoints),) = random.choices(roomy, [share for share, _ in roomy])
        return random.choice(endpoints)

    def pick_untried(self, tried: Collection[Endpoint], random: Random) -> Endpoint | None:
        """Another endpoint for a new session, after those in `tried` refused it."""
        for tier in tiers(self.backends, tried):
            weights = [share for _, share, _ in tier]
            ((_, _, endpoints),) = random.choices(tier, weights)
            return less_busy(endpoints, random) if self.least_requests else random.choice(endpoints)
        return None


Tier = tuple[tuple[Backend, int, tuple[Endpoint, ...]], ...]
"""Backends, their shares, and those of their endpoints that are alike good."""


def tiers(backends: Iterable[Backend], tried: Collection[Endpoint]) -> Iterator[Tier]:
    """The endpoints that can take a session, in groups, best first; those in `tried` left out.

    Over the whole rule a better state goes before a worse one, so that a backend whose pods are all still
    joining waits instead of taking sessions that other proxies could not follow. Backends of weight 0 come
    after all others.
    """
    backends = tuple(backends)
    for weighted in (True, False):
        for state, must_serve in _TIERS:
            tier = tuple(
                (backend, backend.weight or 1, endpoints)
                for backend in backends
                if bool(backend.weight) is weighted
                and (
                    endpoints := tuple(
                        endpoint
                        for endpoint in backend.endpoints
                        if endpoint.state is state
                        and (endpoint.serving or not must_serve)
                        and endpoint not in tried
                    )
                )
            )
            if tier:
                yield tier


def smooth(pool: tuple[Backend, ...]) -> Backend:
    """The next backend by smooth weighted round robin: exact shares over each full turn, well mixed."""
    total = 0
    best = pool[0]
    for backend in pool:
        total += backend.share
        backend.lead += backend.share
        if backend.lead > best.lead:
            best = backend
    best.lead -= total
    return best


def less_busy(endpoints: tuple[Endpoint, ...], random: Random) -> Endpoint:
    """The one with fewer requests in flight of two taken at random; either when they are alike."""
    count = len(endpoints)
    if count == 1:
        return endpoints[0]
    first = int(random.random() * count)
    second = int(random.random() * (count - 1))
    if second >= first:
        second += 1
    one, other = endpoints[first], endpoints[second]
    return one if one.in_flight <= other.in_flight else other
