"""Placing sessions: the backend by smooth weighted round robin, the endpoint by the rule's algorithm.

Those of a hashed value, and those whose endpoint is lost, go by rendezvous over both, which neither zones nor
slow start touch: every proxy has to say the same.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from random import Random
from typing import Final

from stickyroute_api import snapshot
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_proxy.affinity.algorithm import Algorithm, Turn, algorithm, in_turn
from stickyroute_proxy.affinity.endpoint import KEEPS, Endpoint, endpoint_key, seed
from stickyroute_proxy.affinity.keys import Facts, Reader, reader, value_of
from stickyroute_proxy.affinity.quota import Quota
from stickyroute_proxy.affinity.recent import Recent
from stickyroute_proxy.affinity.rendezvous import Rendezvous
from stickyroute_proxy.affinity.sessions import ScopeSessions
from stickyroute_proxy.affinity.token import Keyring

Fits = Callable[[Endpoint], bool]

FIRST_SHARE: Final = 0.1
"""The share of what would be its own that an endpoint takes when its slow start begins."""


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
        "_hash_on",
        "_homes",
        "_placed",
        "_prefer_zone",
        "_rendezvous",
        "_salt",
        "_sessions",
        "_slow_start",
        "_whole",
        "_zone",
        "algorithm",
        "backends",
        "keyring",
        "orders",
        "pool",
        "tiers",
    )

    backends: tuple[Backend, ...]
    pool: tuple[Backend, ...]
    """The backends that take new sessions now."""
    tiers: "tuple[Tier, ...]"
    """All endpoints that can take a session, best first; `pool` is made of the first."""
    orders: Mapping[str, str]
    """What is ordered for pods, by their names: Drain or Disable."""
    keyring: Keyring
    algorithm: Algorithm
    _placed: Recent[Endpoint]
    """Where hashed values go: while the tiers are the same."""
    _homes: Recent[bytes]
    """Where hashed values went last."""
    _salt: int
    """Tells numbers of this rule, and of its present tiers, from all others."""
    _whole: int
    """Tells numbers of this rule from all others."""

    def __init__(self) -> None:
        self.backends = ()
        self.pool = self.tiers = ()
        self.orders = {}
        self.algorithm = in_turn
        self._rendezvous: Rendezvous | None = None
        self._hash_on: Reader | None = None
        self._prefer_zone = False
        self._zone = ""
        self._slow_start = 0.0

    def take(self, rule: snapshot.Rule, sessions: ScopeSessions, random: Random) -> None:
        """Follow the rule's backends and algorithm; those it had before go on where they stand."""
        balancing = rule.balancing
        self._sessions = sessions
        self.algorithm = algorithm(balancing, sessions)
        hash_on = value_of(rule.persistence)
        if hash_on is None and balancing.algorithm == "Hash":
            hash_on = balancing.hash_on
        self._hash_on = None if hash_on is None else reader(hash_on)
        self._placed, self._homes = sessions.known.placed, sessions.known.homes
        if not self.backends:
            self._whole = random.getrandbits(64)
        self._prefer_zone = balancing.prefer_zone
        self._slow_start = balancing.slow_start
        before = {backend.set_id: backend for backend in self.backends}
        taken = []
        for given in rule.backends:
            backend = before.pop(given.endpoints, None) or Backend(given.service, given.endpoints, random)
            backend.weight = given.weight
            taken.append(backend)
        self.backends = tuple(taken)

    def refresh(self, zone: str, now: float, random: Random) -> None:
        """Find anew who takes new sessions, after backends, endpoint states or orders changed.

        `zone`: the proxy's own; empty when it is not known.
        """
        self._zone = zone if self._prefer_zone else ""
        before = [(backend, backend.share) for backend in self.pool]
        found = tiers(self.backends, self.orders, now)
        if found != self.tiers or self._rendezvous is None:
            self._rendezvous = None
            self._salt = random.getrandbits(64)
        self.tiers = found
        tier = self.tiers[0] if self.tiers else ()
        for backend, share, endpoints in tier:
            backend.share = share
            backend.eligible = endpoints
            backend.turn.endpoints = self._near(endpoints)
            backend.ease(self._slow_start, now)
        self.pool = tuple(backend for backend, _, _ in tier)
        if [(backend, backend.share) for backend in self.pool] != before:
            for backend in self.pool:
                backend.lead = 0

    def pick(self, facts: Facts, now: float, random: Random) -> Endpoint | None:
        """The endpoint of the next new session; None when nothing can serve."""
        pool = self.pool
        if not pool:
            return None
        if self._hash_on is not None and (value := self._hash_on(facts)):
            return self._hashed(self.keyring.number(value))
        backend = pool[0] if len(pool) == 1 else smooth(pool)
        endpoint = self.algorithm(backend.turn, random)
        if endpoint in backend.fresh and not self._may_start(backend, endpoint, now, random):
            return self.algorithm(backend.steady, random)
        return endpoint

    def hashes(self, facts: Facts) -> bool:
        """Whether the request brings a value that its endpoint follows from."""
        return self._hash_on is not None and bool(self._hash_on(facts))

    def by_value(self, facts: Facts) -> tuple[BindingReason, Endpoint | None]:
        """Where the request's value leads, and whether it did when it was last seen; None without a value."""
        if self._hash_on is None or not self.pool or not (value := self._hash_on(facts)):
            return BindingReason.UNPINNED, None
        number = self.keyring.number(value)
        endpoint = self._placed.get(number ^ self._salt)
        if endpoint is not None:
            return BindingReason.HASHED, endpoint
        endpoint = self._hashed(number)
        before = self._homes.get(number ^ self._whole)
        self._homes.put(number ^ self._whole, endpoint.key)
        if before is None or before == endpoint.key:
            return BindingReason.HASHED, endpoint
        return BindingReason.ENDPOINTS_CHANGED, endpoint

    def pick_below(self, facts: Facts, fits: Fits, random: Random) -> Endpoint | None:
        """An endpoint for a new session that is below the scope's limits and fits beside."""
        quota = self._sessions.quota
        room = fits if quota is None else lambda one: fits(one) and quota.has_room(one)
        roomy = _fitting(((backend, backend.share, backend.eligible) for backend in self.pool), room)
        return self._pick_of(roomy, facts, random) if roomy else None

    def pick_untried(self, facts: Facts, tried: Collection[Endpoint], random: Random) -> Endpoint | None:
        """Another endpoint for a new session, after those in `tried` refused it; at a limit, if need be."""
        for tier in self.untried(tried):
            return self._pick_of(self._roomy(tier), facts, random)
        return None

    def takes(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint is below the scope's limits."""
        quota = self._sessions.quota
        return quota is None or quota.has_room(endpoint)

    def repin(self, session: bytes, tried: Collection[Endpoint]) -> Endpoint | None:
        """The endpoint that takes over a session whose own is lost; None when nothing can serve.

        By rendezvous, so that every proxy says the same; who has no share of a limit left takes the next.
        """
        number = self.keyring.number(session)
        quota = self._sessions.quota
        if quota is not None and quota.limits.sessions:
            return self._repin_below(quota, session, number, tried)
        if not tried and self.tiers:
            return self._highest(number)
        for tier in self.untried(tried):
            return _rendezvous(tier).highest(number)
        return None

    def _repin_below(
        self, quota: Quota, session: bytes, number: int, tried: Collection[Endpoint]
    ) -> Endpoint | None:
        """As `repin`, but those that are at a limit come last; one that took the session over keeps it."""
        last = quota.moved(session)
        for tier in self.untried(tried):
            if last is not None and any(last in endpoints for _, _, endpoints in tier):
                return last
            return _rendezvous(_fitting(tier, quota.has_place) or tier).highest(number)
        return None

    def begin_at(self, session: bytes) -> Endpoint | None:
        """Where every proxy would have a new session of that id begin, as far as the limits leave room.

        One that began lately, and may do so with each request, stays where it did.
        """
        quota = self._sessions.quota
        if quota is None or not self.tiers:
            return self.repin(session, ())
        began = quota.began(session)
        begun = () if began is None else _fitting(self.tiers[0], lambda one: one.id == began)
        return _rendezvous(begun or self._roomy(self.tiers[0])).highest(self.keyring.number(session))

    def _roomy(self, tier: "Tier") -> "Tier":
        """Those of the tier that are below the scope's limits; all, where none is."""
        quota = self._sessions.quota
        return tier if quota is None else _fitting(tier, quota.has_room) or tier

    def untried(self, tried: Collection[Endpoint]) -> "Iterator[Tier]":
        """The tiers without the endpoints in `tried`."""
        if not tried:
            yield from self.tiers
            return
        for tier in self.tiers:
            left = _fitting(tier, lambda one: one not in tried)
            if left:
                yield left

    def _hashed(self, number: int) -> Endpoint:
        """The endpoint of a hashed value."""
        endpoint = self._placed.get(number ^ self._salt)
        if endpoint is None:
            endpoint = self._highest(number)
            self._placed.put(number ^ self._salt, endpoint)
        return endpoint

    def _highest(self, number: int) -> Endpoint:
        """Where rendezvous over the first tier leads; there is one."""
        if self._rendezvous is None:
            self._rendezvous = _rendezvous(self.tiers[0])
        return self._rendezvous.highest(number)

    def _pick_of(self, tier: "Tier", facts: Facts, random: Random) -> Endpoint:
        """An endpoint where the usual turn is of no use."""
        if self._hash_on is not None and (value := self._hash_on(facts)):
            return _rendezvous(tier).highest(self.keyring.number(value))
        ((_, _, endpoints),) = random.choices(tier, [share for _, share, _ in tier])
        return self.algorithm(Turn(self._near(endpoints), random), random)

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


def _fitting(tier: Iterable[tuple[Backend, int, tuple[Endpoint, ...]]], fits: Fits) -> Tier:
    """The part of a tier whose endpoints fit."""
    return tuple(
        (backend, share, endpoints)
        for backend, share, given in tier
        if (endpoints := tuple(one for one in given if fits(one)))
    )


def standing(endpoint: Endpoint, order: str, now: float) -> int | None:
    """How good it is for a new session, 0 is best; None: it takes none, whatever else there is.

    Serving, Joining; ejected; drained by order or terminating; and, in the last resort, unhealthy or not
    ready. The last two only while it can still answer.
    """
    if order == "Disable":
        return None
    if order != "Drain" and endpoint.state in KEEPS and not endpoint.unhealthy:
        if not endpoint.takes(now):
            return 2
        return 0 if endpoint.state is EndpointState.SERVING else 1
    if not endpoint.serving:
        return None
    return 4 if endpoint.unhealthy or endpoint.state is EndpointState.NOT_READY else 3


def tiers(backends: Iterable[Backend], orders: Mapping[str, str], now: float) -> tuple[Tier, ...]:
    """The endpoints that can take a session, in groups, best first.

    Over the whole rule a better state goes before a worse one, so that a backend whose pods are all still
    joining waits instead of taking sessions that other proxies could not follow. Backends of weight 0 come
    after all others.
    """
    found: dict[tuple[bool, int], dict[Backend, list[Endpoint]]] = {}
    for backend in backends:
        for endpoint in backend.endpoints:
            rank = standing(endpoint, orders.get(endpoint.pod, ""), now)
            if rank is not None:
                tier = found.setdefault((not backend.weight, rank), {})
                tier.setdefault(backend, []).append(endpoint)
    return tuple(
        tuple((backend, backend.weight or 1, tuple(endpoints)) for backend, endpoints in found[rank].items())
        for rank in sorted(found)
    )


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
