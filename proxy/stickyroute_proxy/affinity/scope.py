"""Scopes: what shares sessions, and what is ordered for its pods."""

from enum import Enum, auto
from itertools import chain
from math import inf
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, Any, Final

from stickyroute_api import snapshot
from stickyroute_api.affinity import DEFAULT_WINDOW, Clash, together
from stickyroute_api.reasons import EXPIRED, BindingReason, EndpointState
from stickyroute_proxy.affinity.carrier import Carrier, carrier
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.keys import Presenter, value_of
from stickyroute_proxy.affinity.quota import Quota
from stickyroute_proxy.affinity.rebalance import Mover
from stickyroute_proxy.affinity.sessions import KnownSessions, Name, ScopeSessions
from stickyroute_proxy.affinity.token import SEPARATOR, Keyring

if TYPE_CHECKING:
    from stickyroute_proxy.affinity.rule import Rule

Named = dict[bytes, tuple[Endpoint, ...]]
"""Endpoints by what bindings name them by: one, a StatefulSet's pod and its successor, or a cohort."""

_NAMES: Final[dict[str, Name]] = {
    "Pod": attrgetter("key"),
    "StatefulPod": attrgetter("stable"),
    "Cohort": attrgetter("cohort"),
}

IDLE_GRACE: Final = 1.1
"""A session expires at its last sealing plus this many idle timers: re-sealing may lag by a tenth."""
RESEAL_SHARE: Final = 0.1
"""The share of the idle timer after which a token is sealed anew."""
UNTIMED: Final = 7 * 86400.0
"""Seconds after which the store may forget an entry that no timer ends."""


class Kind(Enum):
    """How the sessions of a scope are known again."""

    TOKEN = auto()
    """By a token of ours."""
    STORED = auto()
    """By the application's own key, whose binding the store keeps."""
    HASHED = auto()
    """By a value that leads to an endpoint: no binding is kept."""
    NONE = auto()
    """Not at all."""


class Scope:
    """What shares sessions; the same object for as long as its route is served and names it."""

    __slots__ = (
        "absolute",
        "bound",
        "carrier",
        "clashes",
        "cleans",
        "disabled",
        "draining",
        "ended",
        "endpoints",
        "fixed",
        "id",
        "identity",
        "idle",
        "keyring",
        "kind",
        "learns",
        "moved",
        "mover",
        "name",
        "named",
        "new",
        "others",
        "overrides",
        "parked",
        "pods",
        "policy",
        "ports",
        "presented",
        "rejected",
        "released",
        "reseal",
        "restarted",
        "returned",
        "rules",
        "sessions",
        "sticky",
        "stored",
    )

    id: str
    """`namespace/route/scope`."""
    identity: bytes
    """`id`, as tokens are sealed for it."""
    policy: snapshot.Persistence
    kind: Kind
    sticky: bool
    """Whether it is of kind TOKEN."""
    stored: bool
    """Whether it is of kind STORED."""
    learns: bool
    """The application gives its keys out."""
    cleans: bool
    """What an application sets under our name is taken out of answers."""
    fixed: bool
    """No fresh token of ours reaches the client: it stays in the application's value."""
    carrier: Carrier
    presented: Presenter
    """The tokens, or in a stored scope the values, that a request shows."""
    name: Name
    """What bindings name an endpoint by: a digest of what `bind_to` says."""
    overrides: tuple[snapshot.Override, ...]
    idle: float
    """Seconds from a token's sealing to its end; infinite without an idle timer."""
    reseal: float
    """Seconds from a token's sealing to the next."""
    absolute: float
    """Seconds from a session's creation to its end."""

    keyring: Keyring
    pods: dict[bytes, int]
    """How many sets of the whole table hold the endpoint of a key."""
    rules: tuple["Rule", ...]
    named: Named
    """The endpoints of all its rules."""
    endpoints: tuple[Endpoint, ...]
    """Them all, those that are disabled included; a pod with several ports only once."""
    ports: dict[bytes, frozenset[Endpoint]]
    """By key, those of a pod with several: its ports, and left ones that have requests under way."""
    disabled: frozenset[bytes]
    """What an override forbids all sessions, by its name."""
    released: dict[bytes, float]
    """Bindings that name this and were made earlier have ended."""
    mover: Mover | None
    """What moves idle sessions; None: nothing does."""
    draining: tuple[Endpoint, ...]
    """Those whose drain is not over."""
    parked: dict[bytes, Any]
    """The data path's exchanges that wait for an endpoint to come back, by its name."""
    returned: list[Any]
    """Those whose endpoint has, or never will."""
    sessions: ScopeSessions

    bound: int
    """Decisions by a binding that held, since the proxy began. The others are in `others`."""
    others: dict[BindingReason, int]
    new: int
    """Sessions that began."""
    moved: int
    """Sessions that lost their pod."""
    rejected: int
    """Requests for which there was no endpoint."""
    restarted: int
    """Sessions whose application was told that a container of their pod had begun anew."""
    ended: dict[BindingReason, int]
    """Ends of sessions, and moves of values, that no departure from a pod tells of."""
    clashes: dict[str, Clash]
    """What the application gave out under our name, by that: another policy's stay, for counts only grow."""

    def __init__(self, scope_id: str, known: KnownSessions, pods: dict[bytes, int]) -> None:
        self.id = scope_id
        self.identity = scope_id.encode()
        self.pods = pods
        self.rules = ()
        self.named = {}
        self.endpoints = self.draining = self.overrides = ()
        self.ports = {}
        self.disabled = frozenset()
        self.released = {}
        self.parked = {}
        self.returned = []
        self.sessions = ScopeSessions(known)
        self.bound = self.new = self.moved = self.rejected = self.restarted = 0
        self.others = {}
        self.ended = {}
        self.clashes = {}
        self.mover = None
        self.kind = Kind.NONE
        self.take(snapshot.Persistence())

    def take(self, policy: snapshot.Persistence) -> None:
        """Follow this policy from now on."""
        self.policy = policy
        before, self.kind = self.kind, _kind(policy)
        self.sticky = self.kind is Kind.TOKEN
        self.stored = self.kind is Kind.STORED
        self.carrier = carrier(policy)
        self.learns = self.carrier.learns
        self.cleans = self.carrier.cleans
        self.fixed = self.learns and self.sticky
        self.presented = self.carrier.presented
        self.name = _NAMES[policy.bind_to]
        if self.sessions.name is not self.name or self.kind is not before:
            self.sessions.forget()
            self.sessions.name = self.name
            self.named = {}
        idle = inf if policy.idle_timeout is None else policy.idle_timeout
        self.idle = idle * IDLE_GRACE
        self.reseal = (min(idle, UNTIMED) if self.stored else idle) * RESEAL_SHARE
        self.absolute = inf if policy.absolute_timeout is None else policy.absolute_timeout
        self.sessions.window = DEFAULT_WINDOW if idle == inf else idle
        self.sessions.epoch = policy.epoch
        self.sessions.returns = self.fixed
        self._take_limits(policy.limits)
        if not policy.rebalance.sessions_per_minute or not self.sticky:
            self.mover = None
        elif self.mover is None:
            self.mover = Mover(policy.rebalance)
        else:
            self.mover.idle_for = policy.rebalance.idle_for

    def _take_limits(self, limits: snapshot.SessionLimits) -> None:
        """Follow these limits; what counts towards them goes on."""
        quota = self.sessions.quota
        if not (limits.sessions or limits.requests):
            self.sessions.quota = None
            if quota is not None and quota.waiting:
                self.returned.append(quota.waiting)
        elif quota is None:
            self.sessions.quota = Quota(limits, self.sessions.at, self.requests_at)
        else:
            quota.limits = limits

    def take_keyring(self, keyring: Keyring) -> None:
        """Seal, open and hash with these keys from now on."""
        self.keyring = keyring
        for rule in self.rules:
            rule.balancer.keyring = keyring

    def key(self, value: bytes) -> bytes:
        """What stands for a value of the application's: in a stored scope its binding is kept under it."""
        return self.keyring.digest(self.identity + SEPARATOR + value)

    def count(self, reason: BindingReason) -> None:
        """Count a decision that was not by a binding that held."""
        self.others[reason] = self.others.get(reason, 0) + 1

    @property
    def expired(self) -> int:
        """Sessions that came back after the end of a timer."""
        return sum(self.ended.get(reason, 0) for reason in EXPIRED)

    def end(self, reason: BindingReason) -> None:
        """Count an end for which no pod is named."""
        self.ended[reason] = self.ended.get(reason, 0) + 1

    def clash(self, times: int, now: float) -> None:
        """Count what the application gave out under our name."""
        self.clashes = together(self.clashes, {self.policy.ours: Clash(times=times, last=now)})

    def decisions(self) -> dict[BindingReason, int]:
        """All decisions since the proxy began, by reason."""
        return {BindingReason.BOUND: self.bound, **self.others}

    def names_stable(self, endpoint: Endpoint) -> bool:
        """Whether a binding names what a successor of the pod takes over."""
        return self.policy.bind_to == "StatefulPod" and endpoint.stable != endpoint.key

    def requests_at(self, endpoint: Endpoint) -> int:
        """How many requests are in flight on the endpoint's pod, on whatever port."""
        ports = self.ports.get(endpoint.key)
        return sum(one.in_flight for one in ports) if ports else endpoint.in_flight

    def refresh(self, now: float, random: Random) -> None:
        """Take the endpoints of its rules anew, and note those that keep sessions no more."""
        before = self.named
        self._take_orders()
        named: Named = {}
        for rule in self.rules:
            rule.own = self._named(rule)
            for name, endpoints in rule.own.items():
                named.setdefault(name, endpoints)
        self.named = named
        for name, (endpoint, *_) in named.items():
            self.sessions.follow(name, endpoint)
        for name in named.keys() & self.sessions.gone.keys():
            if self._keeps(name, now):
                self.sessions.reopen(named[name][0])
        for rule in self.rules:
            # A binding holds in every rule of its scope, on the rule's own port where it has one.
            rule.follow(named if len(self.rules) == 1 else {**named, **rule.own}, now, random)
        for name, (endpoint, *_) in before.items():
            if name not in named and name not in self.disabled and not self.names_stable(endpoint):
                lives = BindingReason.POLICY_CHANGED if name in self.pods else BindingReason.POD_TERMINATED
                self.sessions.leave(endpoint, lives, now)
        self.draining = tuple(
            endpoint
            for endpoints in named.values()
            for endpoint in endpoints
            if endpoint.state is EndpointState.DRAINING
        )
        self.settle(now)
        self._unpark(now)

    def _keeps(self, name: bytes, now: float) -> bool:
        """Whether bindings of that name hold, as far as its endpoints go."""
        drain = self.policy.drain_timeout
        return any(now < endpoint.kept_until(drain) for endpoint in self.named.get(name, ()))

    def _unpark(self, now: float) -> None:
        """Find who need wait no more: what they wait for keeps sessions, or will not come back."""
        for name, queue in tuple(self.parked.items()):
            endpoints = self.named.get(name, ())
            has_left = name not in self.disabled and all(
                endpoint.state is EndpointState.DRAINING for endpoint in endpoints
            )
            if (has_left and self.policy.bind_to != "StatefulPod") or self._keeps(name, now):
                self.returned.append(queue)
            elif queue:
                continue
            del self.parked[name]

    def _take_orders(self) -> None:
        """What the overrides say of endpoints, by their names."""
        present = [
            endpoint
            for rule in self.rules
            for backend in rule.balancer.backends
            for endpoint in backend.endpoints
        ]
        found = {endpoint.key: endpoint for endpoint in present}
        busy = (one for one in (*self.endpoints, *chain(*self.ports.values())) if one.in_flight)
        ports: dict[bytes, set[Endpoint]] = {}
        for endpoint in chain(present, busy):
            first = found.get(endpoint.key, endpoint)
            if endpoint is not first:
                ports.setdefault(endpoint.key, {first}).add(endpoint)
        self.ports = {key: frozenset(others) for key, others in ports.items()}
        self.endpoints = self.sessions.endpoints = tuple(found.values())
        for counting in (self.sessions.quota, self.mover):
            if counting is not None:
                counting.forget(frozenset(endpoint.id for endpoint in self.endpoints))
        orders = {override.pod: override for override in self.overrides}
        before = self.released
        disabled, self.released = set(), {}
        for endpoint in self.endpoints if orders else ():
            order = orders.get(endpoint.pod)
            if order is not None and order.action == "Disable":
                disabled.add(self.name(endpoint))
            elif order is not None and order.action == "Release" and self.policy.bind_to != "Cohort":
                self.released[self.name(endpoint)] = order.since
        self.disabled = frozenset(disabled)
        for name, since in self.released.items():
            if before.get(name) != since:
                self.sessions.doubt(name)

    def _named(self, rule: "Rule") -> Named:
        """The endpoints of a rule by name, best first; those that are disabled left out."""
        found: dict[bytes, dict[bytes, Endpoint]] = {}
        orders = rule.balancer.orders
        for backend in rule.balancer.backends:
            for endpoint in backend.endpoints:
                if orders.get(endpoint.pod) != "Disable":
                    found.setdefault(self.name(endpoint), {}).setdefault(endpoint.key, endpoint)
        return {name: tuple(sorted(endpoints.values(), key=_preference)) for name, endpoints in found.items()}

    def settle(self, now: float) -> None:
        """Note the endpoints whose drain is over."""
        drain = self.policy.drain_timeout
        for endpoint in self.draining:
            if endpoint.kept_until(drain) > now or self.is_last_resort(endpoint):
                continue
            self.draining = tuple(other for other in self.draining if other is not endpoint)
            shared = self.named.get(self.name(endpoint), ())
            if self.names_stable(endpoint) or any(other.kept_until(drain) > now for other in shared):
                continue
            self.sessions.leave(endpoint, endpoint.loss, now)

    def admit(self, now: float) -> None:
        """Let as many of those who wait for room decide anew as there may be room for."""
        if self.mover is not None:
            self.mover.expire(now)
        quota = self.sessions.quota
        if quota is None:
            return
        quota.expire(now)
        if not quota.waiting:
            return
        takers = {one for rule in self.rules for backend in rule.balancer.pool for one in backend.eligible}
        left = sum(max(0, quota.left(one)) for one in takers)
        if left > 0:
            self.returned.append(quota.waiting.split(left))

    def waiting(self) -> list[Any]:
        """All queues of the data path's exchanges that wait here."""
        quota = self.sessions.quota
        full = [quota.waiting] if quota is not None and quota.waiting else []
        return [*self.parked.values(), *full, *self.returned]

    def is_last_resort(self, endpoint: Endpoint) -> bool:
        return any(endpoint in backend.eligible for rule in self.rules for backend in rule.balancer.pool)


def _kind(policy: snapshot.Persistence) -> Kind:
    if policy.learn == "Store":
        return Kind.STORED
    if policy.type in {"Cookie", "Header", "AppCookie"}:
        return Kind.TOKEN
    return Kind.NONE if value_of(policy) is None else Kind.HASHED


def _preference(endpoint: Endpoint) -> tuple[bool, bool, bool]:
    """Where one name stands for several endpoints, the smallest serves it."""
    keeps = endpoint.keep_until > 0
    return not keeps, endpoint.state is not EndpointState.SERVING, not endpoint.serving
