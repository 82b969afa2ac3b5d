"""How a binding begins, is kept and is carried: sealed in the client's token, or kept in the store."""

from random import Random
from typing import Final

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.decision import NOTICES, Decision, Followed
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.scope import Kind, Scope
from stickyroute_proxy.affinity.token import LONG_LIVED, NAMED, SESSION_BYTES, Binding

CLOCK_SKEW: Final = 5.0
"""Seconds by which the clocks of two proxies may differ without any effect."""


def begin(rule: Rule, endpoint: Endpoint, reason: BindingReason, now: float, random: Random) -> Decision:
    """A new session there. It is known here only once it comes back."""
    scope = rule.scope
    scope.count(reason)
    scope.new += 1
    return place(rule, random.randbytes(SESSION_BYTES), endpoint, reason, now)


def place(rule: Rule, session: bytes, endpoint: Endpoint, reason: BindingReason, now: float) -> Decision:
    """The session of this id begins at an endpoint."""
    scope = rule.scope
    if scope.sessions.quota is not None:
        scope.sessions.quota.place(session, endpoint, now)
    flags = NAMED if scope.names_stable(endpoint) else 0
    bound = bound_at(scope, endpoint, now)
    binding = Binding(session, scope.name(endpoint), now, bound, now, scope.policy.epoch, flags, 0)
    if scope.kind is Kind.STORED:
        return Decision(endpoint, reason, binding=binding)
    token = scope.keyring.seal(binding, scope.identity)
    return Decision(endpoint, reason, token, None, token, binding=binding)


def bound_at(scope: Scope, endpoint: Endpoint, now: float) -> float:
    """When a binding to the endpoint that is made now was made.

    Other clocks said when its pod's containers began and when it was released: it is older than neither.
    """
    return max(now, endpoint.started, scope.released.get(scope.name(endpoint), 0.0))


def keep(rule: Rule, binding: Binding, token: bytes | None, endpoint: Endpoint, now: float) -> Decision:
    """The binding holds: its endpoint, and a fresh token when this one has aged."""
    scope = rule.scope
    if binding.bound < endpoint.started and scope.policy.bind_to != "Cohort":
        return _tell_restart(rule, binding, token, endpoint, now)
    scope.bound += 1
    aged = (
        now >= binding.sealed + scope.reseal
        or binding.sealed > now + CLOCK_SKEW
        or binding.flags & LONG_LIVED
        or (binding.key != scope.keyring.sealing and token is not None)
    )
    if aged and not scope.fixed:
        return reseal(scope, binding, endpoint, BindingReason.BOUND, now)
    remember(scope, binding, endpoint, token)
    if token is None:
        return Followed(endpoint, BindingReason.BOUND, binding)
    return Decision(endpoint, BindingReason.BOUND, None, None, token)


def _tell_restart(
    rule: Rule, binding: Binding, token: bytes | None, endpoint: Endpoint, now: float
) -> Decision:
    """The pod lives, its memory is gone: told once for each session, and the binding says that it was."""
    scope = rule.scope
    told = scope.sessions.has_moved(binding.session, shown(binding, token), endpoint, recheck(scope, binding))
    reason = BindingReason.BOUND if told else BindingReason.CONTAINER_RESTARTED
    if told:
        scope.bound += 1
    else:
        scope.restarted += 1
        scope.count(reason)
    since = binding._replace(bound=bound_at(scope, endpoint, now))
    return reseal(scope, since, endpoint, reason, now)


def reseal(scope: Scope, binding: Binding, endpoint: Endpoint, reason: BindingReason, now: float) -> Decision:
    """Follow the binding with a fresh token; a beginning in the future was another clock's."""
    created = min(binding.created, now)
    flags = binding.flags & ~LONG_LIVED
    fresh = Binding(binding.session, binding.endpoint, created, binding.bound, now, binding.epoch, flags, 0)
    token = None if scope.kind is Kind.STORED else scope.keyring.seal(fresh, scope.identity)
    remember(scope, fresh, endpoint, token)
    return Decision(endpoint, reason, token, NOTICES.get(reason), token, binding=fresh)


def remember(scope: Scope, binding: Binding, endpoint: Endpoint, token: bytes | None) -> None:
    """Know the session here."""
    moved = binding.bound > binding.created
    scope.sessions.enter(
        binding.session, endpoint, shown(binding, token), recheck(scope, binding), moved=moved
    )


def shown(binding: Binding, token: bytes | None) -> bytes:
    """What tells the binding from the session's others: its token; of a stored one its times.

    To the millisecond: the store rounds.
    """
    if token:
        return token
    session, endpoint, _, bound, sealed, _, _, _ = binding
    return b"%b%b %d %d" % (session, endpoint, int(bound * 1000 + 0.5), int(sealed * 1000 + 0.5))


def recheck(scope: Scope, binding: Binding) -> float:
    """Until when its token needs no other look than at its endpoint (Unix seconds)."""
    return min(binding.sealed + scope.reseal, binding.created + scope.absolute)


def followed(scope: Scope, decision: Decision) -> Binding | None:
    """The binding that a decision followed or made; None without one."""
    if decision.binding is not None:
        return decision.binding
    if isinstance(decision, Followed):
        return decision.followed
    if decision.token is None:
        return None
    opened = scope.keyring.open(decision.token, scope.identity)
    return opened if isinstance(opened, Binding) else None
