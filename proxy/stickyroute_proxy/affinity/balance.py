"""Placing sessions: the backend by smooth weighted round robin, the endpoint by the rule's algorithm.

Those of a hashed value, and those whose endpoint is lost, go by rendezvous over both, which neither zones nor
slow start touch: every proxy has to say the same.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from random import Random
from typing import Final

from stickyroute_api import snapshot
from stickyroute_api.reasons import EndpointState
from stickyroute_proxy.affinity.algorithm import Algorithm, Turn, algorithm, in_turn
from stickyroute_proxy.affinity.endpoint import Endpoint, endpoint_key, seed
from stickyroute_proxy.affinity.keys import Facts, Reader, reader
from stickyroute_proxy.affinity.rendezvous import Rendezvous
from stickyroute_proxy.affinity.sessions import ScopeSessions
from stickyroute_proxy.affinity.token import Keyring

FIRST_SHARE: Final = 0.1
"""The share of what would be its own that an endpoint takes when its slow start begins."""
REMEMBERED: Final = 4096
"""How many hashed values a rule remembers the endpoints of."""

_TIERS: Final = (
    (EndpointState.SERVING, False),
    (EndpointState.JOINING, False),
    (EndpointState.DRAINING, True),
    (EndpointState.NOT_READY, True),
)
"""Who takes new sessions, best first; True: only endpoints that can still answer."""


class Backend:
    """A weighted Service of a rule, and where its round robin stands."""

    __slots__ = (
        "eligible",
        "endpoints",
        "fresh",
        "lead",
        "seed",
        "service",
        "set_id",
        "share",
        "steady",
        "turn",
        "weight",
    )

    service: str
    set_id: str
    """The snapshot's key of its endpoints."""
    seed: int
    """For consistent hashing."""
    weight: int
    endpoints: tuple[Endpoint, ...]
    eligible: tuple[Endpoint, ...]
    """Those that take new sessions now."""
    turn: Turn
    """Those of them that are to be preferred: the proxy's own zone's."""
    steady: Turn
    """Those of `turn` that are not fresh."""
    fresh: dict[Endpoint, float]
    """Those of `turn` in slow start, and when they began to serve."""
    share: int
    """The weight that counts among the backends with eligible endpoints."""
    lead: int
    """How far it is ahead of its share: smooth weighted round robin's running value."""

    def __init__(self, service: str, set_id: str, random: Random) -> None:
        self.service = service
        self.set_id = set_id
        self.seed = seed(endpoint_key(set_id))
        self.weight = 0
        self.endpoints = ()
        self.eligible = ()
        self.turn = Turn((), random)
        self.steady = Turn((), random)
        self.fresh = {}
        self.share = 0
        self.lead = 0

    def ease(self, slow_start: float, now: float) -> None:
        """Find anew who is in slow start: nobody, when all are."""
        endpoints = self.turn.endpoints
        fresh = {
            endpoint: endpoint.since
            for endpoint in endpoints
            if slow_start and now - endpoint.since < slow_start
        }
        self.fresh = fresh if len(fresh) < len(endpoints) else {}
        self.steady.endpoints = tuple(endpoint for endpoint in endpoints if endpoint not in self.fresh)


class Balancer:
    """What places the new sessions of one rule."""

    __slots__ = (
        "_algorithm",
        "_hash_on",
        "_hashed",
        "_prefer_zone",
        "_slow_start",
        "_zone",
        "backends",
        "keyring",
        "pool",
    )

    backends: tuple[Backend, ...]
    pool: tuple[Backend, ...]
    """The backends that take new sessions now."""
    keyring: Keyring
    _hashed: Callable[[int], Endpoint]
    """The endpoint of a hashed value."""

    def __init__(self) -> None:
        self.backends = ()
        self.pool = ()
        self._algorithm: Algorithm = in_turn
        self._hash_on: Reader | None = None
        self._prefer_zone = False
        self._zone = ""
        self._slow_start = 0.0

    def take(self, rule: snapshot.Rule, sessions: ScopeSessions, random: Random) -> None:
        """Follow the rule's backends and algorithm; those it had before go on where they stand."""
        balancing = rule.balancing
        self._algorithm = algorithm(balancing, sessions)
        self._hash_on = (
            reader(balancing.hash_on) if balancing.algorithm == "Hash" and balancing.hash_on else None
        )
        self._prefer_zone = balancing.prefer_zone
        self._slow_start = balancing.slow_start
        before = {backend.set_id: backend for backend in self.backends}
        taken = []
        for given in rule.backends:
            backend = before.pop(given.endpoints, None) or Backend(given.service, given.endpoints, random)
            backend.weight = given.weight
            taken.append(backend)
        self.backends = tuple(taken)

    def refresh(self, zone: str, now: float) -> None:
        """Find anew who takes new sessions, after backends or endpoint states changed.

        `zone`: the proxy's own; empty when it is not known.
        """
        self._zone = zone if self._prefer_zone else ""
        before = [(backend, backend.share) for backend in self.pool]
        tier = next(tiers(self.backends, ()), ())
        for backend, share, endpoints in tier:
            backend.share = share
            backend.eligible = endpoints
            backend.turn.endpoints = self._near(endpoints)
            backend.ease(self._slow_start, now)
        self.pool = tuple(backend for backend, _, _ in tier)
        if [(backend, backend.share) for backend in self.pool] != before:
            for backend in self.pool:
                backend.lead = 0
        if self._hash_on is not None and tier:
            self._hashed = lru_cache(REMEMBERED)(_rendezvous(tier).highest)

    def pick(self, facts: Facts, now: float, random: Random) -> Endpoint | None:
        """The endpoint of the next new session; None when nothing can serve."""
        pool = self.pool
        if not pool:
            return None
        if self._hash_on is not None and (value := self._hash_on(facts)):
            return self._hashed(self.keyring.number(value))
        backend = pool[0] if len(pool) == 1 else smooth(pool)
        endpoint = self._algorithm(backend.turn, random)
        if endpoint in backend.fresh and not self._may_start(backend, endpoint, now, random):
            return self._algorithm(backend.steady, random)
        return endpoint

    def hashes(self, facts: Facts) -> bool:
        """Whether the request brings a value that its endpoint follows from."""
        return self._hash_on is not None and bool(self._hash_on(facts))

    def pick_roomy(
        self, facts: Facts, room: int, tried: Collection[Endpoint], random: Random
    ) -> Endpoint | None:
        """An endpoint for a new session with fewer than `room` requests in flight, and none of `tried`."""
        roomy = tuple(
            (backend, backend.share, endpoints)
            for backend in self.pool
            if (
                endpoints := tuple(
                    one
                    for one in backend.eligible
                    if one.in_flight < room and not one.queue and one not in tried
                )
            )
        )
        return self._pick_of(roomy, facts, random) if roomy else None

    def pick_untried(self, facts: Facts, tried: Collection[Endpoint], random: Random) -> Endpoint | None:
        """Another endpoint for a new session, after those in `tried` refused it."""
        for tier in tiers(self.backends, tried):
            return self._pick_of(tier, facts, random)
        return None

    def repin(self, session: bytes, own: Endpoint | None, tried: Collection[Endpoint]) -> Endpoint | None:
        """The endpoint that takes over a session whose own is lost; None when nothing can serve.

        By rendezvous, so that every proxy says the same. `own`, the lost endpoint where it is still known,
        keeps its sessions when it is no worse than the best there is: in the last resort nobody gains by a
        move.
        """
        for tier in tiers(self.backends, tried):
            if own is not None and any(own in endpoints for _, _, endpoints in tier):
                return own
            return _rendezvous(tier).highest(self.keyring.number(session))
        return None

    def _pick_of(self, tier: "Tier", facts: Facts, random: Random) -> Endpoint:
        """An endpoint where the usual turn is of no use."""
        if self._hash_on is not None and (value := self._hash_on(facts)):
            return _rendezvous(tier).highest(self.keyring.number(value))
        ((_, _, endpoints),) = random.choices(tier, [share for _, share, _ in tier])
        return self._algorithm(Turn(self._near(endpoints), random), random)

    def _near(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """Those of the proxy's own zone, when it is preferred and there are any."""
        if not self._zone:
            return endpoints
        return tuple(endpoint for endpoint in endpoints if endpoint.zone == self._zone) or endpoints

    def _may_start(self, backend: Backend, endpoint: Endpoint, now: float, random: Random) -> bool:
        """Whether an endpoint in slow start takes this session: ever more often."""
        grown = (now - backend.fresh[endpoint]) / self._slow_start
        if grown >= 1.0:
            backend.ease(self._slow_start, now)
            return True
        # The clock may have been set back.
        return random.random() < FIRST_SHARE + (1 - FIRST_SHARE) * max(0.0, grown)


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


def _rendezvous(tier: Tier) -> Rendezvous:
    return Rendezvous((backend.seed, share, endpoints) for backend, share, endpoints in tier)
