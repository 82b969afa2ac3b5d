"""What becomes of a session that has lost its endpoint, or whose binding was ended by order.

An order (`epoch`, Release, rebalancing) binds it elsewhere, whatever the mode says. A lost endpoint is first
waited for, where the policy holds requests and it can come back; then the mode decides.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from stickyroute_api.reasons import MOVED, BindingReason
from stickyroute_proxy.affinity.bind import bound_at, keep, recheck, reseal, shown
from stickyroute_proxy.affinity.decision import NOTICES, Decision, Followed, Lost, Parked
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.scope import Scope
from stickyroute_proxy.affinity.token import NAMED, Binding

ORDERED: Final = frozenset({BindingReason.EPOCH_RAISED, BindingReason.RELEASED, BindingReason.REBALANCED})
"""Somebody ended the binding; its endpoint lives."""
_PASSING: Final = frozenset(
    {
        BindingReason.POD_NOT_READY,
        BindingReason.POD_UNHEALTHY,
        BindingReason.POD_DISABLED,
        BindingReason.CONNECT_FAILED,
    }
)
"""The pod lives: it can come back."""


class Refusal(NamedTuple):
    """What the client gets in the upstream's place."""

    status: int
    message: str
    location: bytes = b""


def can_return(lost: Lost) -> bool:
    """Whether what the binding names may serve it again: a pod that lives, or a StatefulSet's pod's name."""
    named = bool(lost.binding.flags & NAMED)
    return lost.reason in _PASSING or (lost.reason is BindingReason.POD_TERMINATED and named)


def fail_over(
    rule: Rule, lost: Lost, now: float, *, tried: Collection[Endpoint] = (), waited: bool = False
) -> Decision:
    """The decision for a session whose binding holds no more.

    `tried`: endpoints that took no connection; `waited`: the request has waited long enough for its own.
    """
    policy = rule.scope.policy.failover
    if lost.reason in ORDERED:
        return _repin(rule, lost, now, tried)
    returns = can_return(lost)
    if returns and policy.hold and not waited:
        return Parked(lost)
    own = _last_resort(rule, lost.binding, tried)
    if own is not None:
        return keep(rule, lost.binding, lost.token, own, now)
    match policy.mode:
        case "Repin":
            return _repin(rule, lost, now, tried)
        case "Temporary":
            return _lodge(rule, lost, tried) if returns else _repin(rule, lost, now, tried)
        case "Reject":
            return _turn_away(rule, lost, now, ends=not returns)
        case "Redirect":
            return _turn_away(rule, lost, now, ends=True)


def give_up(rule: Rule, parked: Parked, now: float, tried: Collection[Endpoint] = ()) -> Decision:
    """The decision for a request that has waited for its endpoint in vain; those in `tried` refused it."""
    return fail_over(rule, parked.lost, now, tried=tried, waited=True)


def refusal(rule: Rule, decision: Decision) -> Refusal:
    """What a client gets for whose request there is no endpoint."""
    policy = rule.scope.policy.failover
    if decision.reason is BindingReason.AT_LIMIT:
        return Refusal(503, "every endpoint has as many sessions or requests as it takes")
    if decision.reason not in MOVED:
        return Refusal(503, "no endpoint can serve this request now")
    if policy.mode == "Redirect":
        return Refusal(302, "your session has ended", policy.redirect_url.encode())
    return Refusal(policy.status, "the endpoint of your session cannot serve it now")


def moved(scope: Scope, binding: Binding, endpoint: Endpoint, now: float) -> Binding:
    """The session's binding to another endpoint."""
    return binding._replace(
        endpoint=scope.name(endpoint),
        bound=bound_at(scope, endpoint, now),
        epoch=max(binding.epoch, scope.policy.epoch),
        flags=NAMED if scope.names_stable(endpoint) else 0,
    )


def none(scope: Scope) -> Decision:
    """Nothing can serve the request."""
    scope.rejected += 1
    scope.count(BindingReason.NO_ENDPOINT)
    return Decision(None, BindingReason.NO_ENDPOINT)


def full(scope: Scope) -> Decision:
    """The limits leave no room for a new session; one that may wait is not turned away yet."""
    if scope.policy.limits.overflow != "Queue":
        turn_away(scope)
    return Decision(None, BindingReason.AT_LIMIT)


def turn_away(scope: Scope) -> None:
    """Count a session for which there was no room."""
    scope.rejected += 1
    scope.count(BindingReason.AT_LIMIT)


def _last_resort(rule: Rule, binding: Binding, tried: Collection[Endpoint]) -> Endpoint | None:
    """The session's own endpoint, where there is no better one: nobody gains by a move."""
    own = rule.own.get(binding.endpoint, ())
    for tier in rule.balancer.untried(tried):
        return next((one for one in own if any(one in endpoints for _, _, endpoints in tier)), None)
    return None


def _repin(rule: Rule, lost: Lost, now: float, tried: Collection[Endpoint]) -> Decision:
    """The one that every proxy would choose takes the session over."""
    scope, (binding, token, reason) = rule.scope, lost
    endpoint = None
    # Away from its pod, unless there is no other. An old envelope does not say which that was.
    released = scope.released if scope.fixed else (binding.endpoint,)
    if reason is BindingReason.RELEASED or (scope.fixed and released):
        avoided = [one for name in released for one in rule.own.get(name, ())]
        endpoint = rule.balancer.repin(binding.session, {*avoided, *tried})
    elif reason is BindingReason.REBALANCED and scope.mover is not None:
        target, drain = scope.mover.target(binding.session), scope.policy.drain_timeout
        # It may have gone since, or be another port of the pod.
        named = () if target is None else rule.named.get(scope.name(target), ())
        kept = (one for one in named if one not in tried and now < one.kept_until(drain))
        endpoint = next(kept, None)
    endpoint = endpoint or rule.balancer.repin(binding.session, tried)
    if endpoint is None:
        return none(scope)
    seen = shown(binding, token)
    has_moved = scope.sessions.has_moved(binding.session, seen, endpoint, recheck(scope, binding))
    if has_moved and scope.fixed:
        # Told already: the client will show the old token until the application gives out another value.
        scope.bound += 1
        scope.sessions.use(binding.session, endpoint)
        return Decision(endpoint, BindingReason.BOUND, token=token)
    scope.count(reason)
    if not has_moved:
        scope.moved += 1
        scope.sessions.move(binding.session, binding.endpoint, reason, now)
        if scope.sessions.quota is not None:
            scope.sessions.quota.move(binding.session, endpoint, now)
    return reseal(scope, moved(scope, binding, endpoint, now), endpoint, reason, now)


def _lodge(rule: Rule, lost: Lost, tried: Collection[Endpoint]) -> Decision:
    """Another endpoint for now: the binding stays as it is, and its idle timer runs."""
    scope, (binding, token, reason) = rule.scope, lost
    endpoint = rule.balancer.repin(binding.session, tried)
    if endpoint is None:
        return none(scope)
    scope.count(reason)
    if token is None:
        return Followed(endpoint, reason, binding, NOTICES[reason])
    return Decision(endpoint, reason, None, NOTICES[reason], token)


def _turn_away(rule: Rule, lost: Lost, now: float, *, ends: bool) -> Decision:
    """No endpoint; `ends`: nor a binding any more."""
    scope, (binding, _, reason) = rule.scope, lost
    scope.rejected += 1
    scope.count(reason)
    if ends:
        scope.sessions.end(binding.session, binding.endpoint, reason, now)
    return Decision(None, reason, b"" if ends else None)
