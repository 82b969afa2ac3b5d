"""Rules and scopes: what requests belong to, and what shares sessions."""

from math import inf
from typing import Any, Final

from stickyroute_api import snapshot
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_proxy.affinity import cookie
from stickyroute_proxy.affinity.balance import Balancer
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.sessions import DEFAULT_WINDOW, KnownSessions, ScopeSessions
from stickyroute_proxy.affinity.token import Keyring
from stickyroute_proxy.changes import UNCHANGED, Changes

IDLE_GRACE: Final = 1.1
"""A session expires at its last sealing plus this many idle timers: re-sealing may lag by a tenth."""
RESEAL_SHARE: Final = 0.1
"""The share of the idle timer after which a token is sealed anew."""


class Scope:
    """What shares sessions; the same object for as long as its route is served and names it."""

    __slots__ = (
        "absolute",
        "bound",
        "cookie_name",
        "draining",
        "expired",
        "id",
        "identity",
        "idle",
        "keyring",
        "members",
        "moved",
        "new",
        "others",
        "pods",
        "policy",
        "prefix",
        "rejected",
        "reseal",
        "rules",
        "sessions",
        "set_cookie_tails",
        "sticky",
    )

    id: str
    """`namespace/route/scope`."""
    identity: bytes
    """`id`, as tokens are sealed for it."""
    policy: snapshot.Persistence
    sticky: bool
    """Whether it keeps sessions at all."""
    cookie_name: bytes
    prefix: bytes
    """What our cookie's pair begins with: `name=`."""
    set_cookie_tails: tuple[bytes, bytes]
    """What follows the token in a Set-Cookie field: for plain HTTP, for TLS."""
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
    members: dict[bytes, Endpoint]
    """The endpoints of all its rules by `Endpoint.key`."""
    draining: tuple[Endpoint, ...]
    """Those whose drain is not over."""
    sessions: ScopeSessions

    bound: int
    """Decisions by a binding that held, since the proxy began. The others are in `others`."""
    others: dict[BindingReason, int]
    new: int
    """Sessions that began."""
    moved: int
    """Sessions that lost their pod."""
    expired: int
    """Sessions that came back after the end of a timer."""
    rejected: int
    """Requests for which there was no endpoint."""

    def __init__(self, scope_id: str, known: KnownSessions, pods: dict[bytes, int]) -> None:
        self.id = scope_id
        self.identity = scope_id.encode()
        self.pods = pods
        self.rules = ()
        self.members = {}
        self.draining = ()
        self.sessions = ScopeSessions(known)
        self.bound = self.new = self.moved = self.expired = self.rejected = 0
        self.others = {}
        self.take(snapshot.Persistence())

    def take(self, policy: snapshot.Persistence) -> None:
        """Follow this policy from now on."""
        self.policy = policy
        self.sticky = policy.type == "Cookie" and policy.cookie is not None
        if policy.cookie is not None:
            self.cookie_name = policy.cookie.name.encode()
            self.prefix = self.cookie_name + b"="
            self.set_cookie_tails = (
                cookie.attributes(policy.cookie, policy.absolute_timeout, secure=False) + b"\r\n",
                cookie.attributes(policy.cookie, policy.absolute_timeout, secure=True) + b"\r\n",
            )
        else:
            self.cookie_name = self.prefix = b""
            self.set_cookie_tails = (b"", b"")
        idle = inf if policy.idle_timeout is None else policy.idle_timeout
        self.idle = idle * IDLE_GRACE
        self.reseal = idle * RESEAL_SHARE
        self.absolute = inf if policy.absolute_timeout is None else policy.absolute_timeout
        self.sessions.window = DEFAULT_WINDOW if idle == inf else idle

    def take_keyring(self, keyring: Keyring) -> None:
        """Seal, open and hash with these keys from now on."""
        self.keyring = keyring
        for rule in self.rules:
            rule.balancer.keyring = keyring

    def count(self, reason: BindingReason) -> None:
        """Count a decision that was not by a binding that held."""
        self.others[reason] = self.others.get(reason, 0) + 1

    def decisions(self) -> dict[BindingReason, int]:
        """All decisions since the proxy began, by reason."""
        return {BindingReason.BOUND: self.bound, **self.others}

    def refresh(self, now: float) -> None:
        """Take the endpoints of its rules anew, and note those that keep sessions no more."""
        before = self.members
        members: dict[bytes, Endpoint] = {}
        for rule in self.rules:
            for key, endpoint in rule.own.items():
                members.setdefault(key, endpoint)
        self.members = members
        for rule in self.rules:
            # A binding holds in every rule of its scope, on the rule's own port where it has one.
            rule.members = members if len(self.rules) == 1 else {**members, **rule.own}
        for key, endpoint in before.items():
            if key not in members:
                lives = BindingReason.POLICY_CHANGED if key in self.pods else BindingReason.POD_TERMINATED
                self.sessions.leave(endpoint, lives, now)
        self.draining = tuple(
            endpoint for endpoint in members.values() if endpoint.state is EndpointState.DRAINING
        )
        self.settle(now)

    def settle(self, now: float) -> None:
        """Note the endpoints whose drain is over."""
        for endpoint in self.draining:
            if endpoint.kept_until(self.policy.drain_timeout) <= now and not self._is_last_resort(endpoint):
                self.sessions.leave(endpoint, endpoint.loss, now)
                self.draining = tuple(other for other in self.draining if other is not endpoint)

    def _is_last_resort(self, endpoint: Endpoint) -> bool:
        return any(endpoint in backend.eligible for rule in self.rules for backend in rule.balancer.pool)


class Rule:
    """One rule of a route; the same object for as long as the route is served and names it."""

    __slots__ = (
        "attempts",
        "balancer",
        "changes",
        "counter",
        "limits",
        "members",
        "name",
        "notify_header",
        "own",
        "route",
        "scope",
        "timeouts",
    )

    name: str
    route: str
    """`namespace/name`."""
    scope: Scope
    timeouts: snapshot.Timeouts
    attempts: int
    """How often what took no connection is tried again."""
    limits: snapshot.Limits
    notify_header: bytes
    """In lower case."""
    changes: Changes
    """What it changes in requests and answers, and where it redirects."""
    balancer: Balancer
    own: dict[bytes, Endpoint]
    """The endpoints of its backends by `Endpoint.key`."""
    members: dict[bytes, Endpoint]
    """Those and the other endpoints of its scope: where a binding may lead."""
    counter: Any
    """Where the data path counts its exchanges; None until there was one."""

    def __init__(self, name: str, route: str) -> None:
        self.name = name
        self.route = route
        self.counter = None
        self.balancer = Balancer()
        self.changes = UNCHANGED
        self.own = self.members = {}
