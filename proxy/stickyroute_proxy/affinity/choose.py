"""Which endpoint a request goes to, and why.

A request's token is looked up among those already opened, or opened, and its binding goes through the checks
below. A binding that holds decides. One that does not is repinned by rendezvous if its session lost its pod,
and is as good as none if it ended by its own timer. A bad token is no token. The rest is balanced.

Synchronous; time and randomness come from the caller; nothing changes but counters and what is known of
sessions, on which no decision depends.
"""

from collections.abc import Callable, Collection
from random import Random
from typing import Final

from stickyroute_api.reasons import EXPIRED, MOVED, BindingReason
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.keys import Facts
from stickyroute_proxy.affinity.rule import Rule, Scope
from stickyroute_proxy.affinity.token import LONG_LIVED, SESSION_BYTES, Binding

CLOCK_SKEW: Final = 5.0
"""Seconds by which the clocks of two proxies may differ without any effect."""

_NOTICES: Final = {reason: reason.value.encode() for reason in MOVED}


class Decision:
    """Where a request goes, why, and what client and application are told."""

    __slots__ = ("endpoint", "notice", "reason", "set_token", "token")

    endpoint: Endpoint | None
    """None: nothing can serve the request, 503."""
    reason: BindingReason
    set_token: bytes | None
    """The token for the client to keep; None: it has the right one, or needs none."""
    notice: bytes | None
    """The notice header's value for the application: why the session has lost its pod."""
    token: bytes | None
    """The token of the binding that this decision follows; None without one."""

    def __init__(
        self,
        endpoint: Endpoint | None,
        reason: BindingReason,
        set_token: bytes | None = None,
        notice: bytes | None = None,
        token: bytes | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.reason = reason
        self.set_token = set_token
        self.notice = notice
        self.token = token


def choose(rule: Rule, facts: Facts, now: float, random: Random) -> Decision:
    """The decision for a request."""
    scope = rule.scope
    if not scope.sticky:
        return _unpinned(rule, facts, now, random)
    tokens = facts.presented(scope.prefix) if facts.cookies else None
    if not tokens:
        return _begin(rule, facts, BindingReason.NEW, now, random)
    session = scope.sessions.known.tokens.get(tokens[0])
    if session is not None and session.place.scope is scope.sessions and now < session.recheck:
        # Opened before, and it held: nothing can have changed but the endpoint.
        endpoint = rule.members.get(session.place.key)
        if endpoint is not None and now < endpoint.keep_until:
            session.used = scope.sessions.known.second
            scope.bound += 1
            return Decision(endpoint, BindingReason.BOUND, None, None, tokens[0])
    return _examine(rule, facts, tokens, now, random)


def rechoose(
    rule: Rule, facts: Facts, failed: Decision, now: float, random: Random, *, tried: Collection[Endpoint]
) -> Decision:
    """The next decision for a request whose endpoint, and all others in `tried`, took no connection.

    A session that was bound moves with reason ConnectFailed; a new one, or one that was just moving, keeps
    its reason and goes elsewhere. `endpoint` is None when there is no other.
    """
    scope = rule.scope
    if failed.endpoint is not None:
        tried = {failed.endpoint, *tried}
    opened = None if failed.token is None else scope.keyring.open(failed.token, scope.identity)
    if failed.token is None or not isinstance(opened, Binding):
        endpoint = rule.balancer.pick_untried(facts, tried, random)
        return _none(scope) if endpoint is None else Decision(endpoint, failed.reason)
    if failed.reason is BindingReason.BOUND:
        return _move(rule, opened, failed.token, BindingReason.CONNECT_FAILED, now, tried=tried)
    moving = failed.reason in MOVED
    if moving:
        endpoint = rule.balancer.repin(opened.session, None, tried)
    else:
        endpoint = rule.balancer.pick_untried(facts, tried, random)
    if endpoint is None:
        return _none(scope)
    binding = opened._replace(endpoint=endpoint.key, bound=now)
    token = _reseal(scope, binding, endpoint, now) if moving else scope.keyring.seal(binding, scope.identity)
    return Decision(endpoint, failed.reason, token, failed.notice, token)


def prolong(rule: Rule, decision: Decision, now: float) -> bytes | None:
    """The token for an answer that begins a tunnel or an event stream: only its absolute timer counts.

    None where the decision follows no binding.
    """
    scope = rule.scope
    if decision.token is None:
        return None
    opened = scope.keyring.open(decision.token, scope.identity)
    if not isinstance(opened, Binding):
        return None
    return scope.keyring.seal(opened._replace(sealed=now, flags=opened.flags | LONG_LIVED), scope.identity)


def sidestep(
    rule: Rule, facts: Facts, full: Decision, room: int, random: Random, *, tried: Collection[Endpoint]
) -> Decision:
    """The decision for a request whose endpoint has no room: a session that just begins goes elsewhere.

    The same decision where no other has room (fewer requests in flight than that) either, or where the
    session belongs to the endpoint: by its binding or, without one, by its hashed value, which is all that
    its next request will bring too. Those in `tried` took no connection.
    """
    if full.reason is BindingReason.BOUND or full.reason in MOVED:
        return full
    if full.token is None and rule.balancer.hashes(facts):
        return full
    endpoint = rule.balancer.pick_roomy(facts, room, tried, random)
    if endpoint is None:
        return full
    scope = rule.scope
    opened = None if full.token is None else scope.keyring.open(full.token, scope.identity)
    if not isinstance(opened, Binding):
        return Decision(endpoint, full.reason)
    token = scope.keyring.seal(opened._replace(endpoint=endpoint.key), scope.identity)
    return Decision(endpoint, full.reason, token, full.notice, token)


Check = Callable[[Rule, Binding, float], BindingReason | None]
"""Why a binding holds no more; None: as far as this check goes it holds."""


def epoch_is_current(rule: Rule, binding: Binding, _now: float) -> BindingReason | None:
    """A later epoch than ours comes from a proxy whose snapshot is newer."""
    return BindingReason.EPOCH_RAISED if binding.epoch < rule.scope.policy.epoch else None


def absolute_timer_runs(rule: Rule, binding: Binding, now: float) -> BindingReason | None:
    """From the session's beginning, over every move."""
    return BindingReason.ABSOLUTE_TIMEOUT if now >= binding.created + rule.scope.absolute else None


def idle_timer_runs(rule: Rule, binding: Binding, now: float) -> BindingReason | None:
    """From the last sealing; it waits while a tunnel or an event stream may be open."""
    if binding.flags & LONG_LIVED:
        return None
    return BindingReason.IDLE_TIMEOUT if now >= binding.sealed + rule.scope.idle else None


def endpoint_is_known(rule: Rule, binding: Binding, _now: float) -> BindingReason | None:
    """A pod's UID never comes back: what the scope does not know is gone, unless another route has it."""
    if binding.endpoint in rule.members:
        return None
    if binding.endpoint in rule.scope.pods:
        return BindingReason.POLICY_CHANGED
    return BindingReason.POD_TERMINATED


def endpoint_keeps_sessions(rule: Rule, binding: Binding, now: float) -> BindingReason | None:
    """By its state and, while it drains, its deadline."""
    endpoint = rule.members[binding.endpoint]
    return None if now < endpoint.kept_until(rule.scope.policy.drain_timeout) else endpoint.loss


CHECKS: Final[tuple[Check, ...]] = (
    epoch_is_current,
    absolute_timer_runs,
    idle_timer_runs,
    endpoint_is_known,
    endpoint_keeps_sessions,
)
"""In this order; each relies on those before it."""


def _examine(rule: Rule, facts: Facts, tokens: list[bytes], now: float, random: Random) -> Decision:
    """The decision by the first token whose binding holds, else by the first that is one of ours."""
    scope = rule.scope
    lost: tuple[Binding, bytes, BindingReason] | None = None
    refusal: BindingReason | None = None
    for token in tokens:
        opened = scope.keyring.open(token, scope.identity)
        if not isinstance(opened, Binding):
            refusal = refusal or opened
            continue
        reason = _first_failure(rule, opened, now)
        if reason is None:
            return _keep(rule, opened, token, now)
        lost = lost or (opened, token, reason)
    if lost is None:
        return _begin(rule, facts, refusal or BindingReason.INVALID_TOKEN, now, random)
    binding, token, reason = lost
    if reason in EXPIRED:
        scope.expired += 1
        return _begin(rule, facts, reason, now, random)
    return _move(rule, binding, token, reason, now)


def _first_failure(rule: Rule, binding: Binding, now: float) -> BindingReason | None:
    for check in CHECKS:
        reason = check(rule, binding, now)
        if reason is not None:
            return reason
    return None


def _keep(rule: Rule, binding: Binding, token: bytes, now: float) -> Decision:
    """The binding holds: its endpoint, and a fresh token when this one has aged."""
    scope = rule.scope
    endpoint = rule.members[binding.endpoint]
    scope.bound += 1
    aged = (
        now >= binding.sealed + scope.reseal
        or binding.sealed > now + CLOCK_SKEW
        or binding.flags & LONG_LIVED
        or binding.key != scope.keyring.sealing
    )
    if aged:
        fresh = _reseal(scope, binding, endpoint, now)
        return Decision(endpoint, BindingReason.BOUND, fresh, None, fresh)
    _remember(scope, binding, endpoint, token)
    return Decision(endpoint, BindingReason.BOUND, None, None, token)


def _move(
    rule: Rule,
    binding: Binding,
    shown: bytes,
    reason: BindingReason,
    now: float,
    *,
    tried: Collection[Endpoint] = (),
) -> Decision:
    """The session has lost its endpoint: the one that every proxy would choose takes it over."""
    scope = rule.scope
    own = None if reason is BindingReason.EPOCH_RAISED else rule.own.get(binding.endpoint)
    endpoint = rule.balancer.repin(binding.session, own, tried)
    if endpoint is None:
        return _none(scope)
    if endpoint is own:
        # There is no better one: nothing moves.
        return _keep(rule, binding, shown, now)
    scope.count(reason)
    if not scope.sessions.has_moved(binding.session, shown, endpoint):
        scope.moved += 1
        scope.sessions.move(binding.session, binding.endpoint, reason, now)
    bound = binding._replace(endpoint=endpoint.key, bound=now, epoch=scope.policy.epoch, flags=0)
    token = _reseal(scope, bound, endpoint, now)
    return Decision(endpoint, reason, token, _NOTICES[reason], token)


def _reseal(scope: Scope, binding: Binding, endpoint: Endpoint, now: float) -> bytes:
    """A fresh token for a session that has shown one; a beginning in the future was another clock's."""
    created = min(binding.created, now)
    flags = binding.flags & ~LONG_LIVED
    fresh = Binding(binding.session, endpoint.key, created, binding.bound, now, binding.epoch, flags, 0)
    token = scope.keyring.seal(fresh, scope.identity)
    _remember(scope, fresh, endpoint, token)
    return token


def _remember(scope: Scope, binding: Binding, endpoint: Endpoint, token: bytes) -> None:
    recheck = min(binding.sealed + scope.reseal, binding.created + scope.absolute)
    scope.sessions.enter(binding.session, endpoint, token, recheck)


def _begin(rule: Rule, facts: Facts, reason: BindingReason, now: float, random: Random) -> Decision:
    """A new session, placed by balance. It is known here only once its token comes back."""
    scope = rule.scope
    endpoint = rule.balancer.pick(facts, now, random)
    if endpoint is None:
        return _none(scope)
    scope.count(reason)
    scope.new += 1
    session = random.randbytes(SESSION_BYTES)
    binding = Binding(session, endpoint.key, now, now, now, scope.policy.epoch, 0, 0)
    token = scope.keyring.seal(binding, scope.identity)
    return Decision(endpoint, reason, token, None, token)


def _unpinned(rule: Rule, facts: Facts, now: float, random: Random) -> Decision:
    endpoint = rule.balancer.pick(facts, now, random)
    if endpoint is None:
        return _none(rule.scope)
    rule.scope.count(BindingReason.UNPINNED)
    return Decision(endpoint, BindingReason.UNPINNED)


def _none(scope: Scope) -> Decision:
    scope.rejected += 1
    scope.count(BindingReason.NO_ENDPOINT)
    return Decision(None, BindingReason.NO_ENDPOINT)
