"""Why a binding holds no more: small checks, each the name of its reason."""

from collections.abc import Callable
from typing import Final

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.token import LONG_LIVED, Binding

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


def not_released(rule: Rule, binding: Binding, _now: float) -> BindingReason | None:
    """An override ends what was bound to its pod before a time."""
    since = rule.scope.released.get(binding.endpoint)
    return BindingReason.RELEASED if since is not None and binding.bound < since else None


def endpoint_is_known(rule: Rule, binding: Binding, _now: float) -> BindingReason | None:
    """A pod's UID never comes back: what the scope does not know is gone, unless another route has it."""
    key = binding.endpoint
    if key in rule.named:
        return None
    if key in rule.scope.disabled:
        return BindingReason.POD_DISABLED
    return BindingReason.POLICY_CHANGED if key in rule.scope.pods else BindingReason.POD_TERMINATED


def endpoint_keeps_sessions(rule: Rule, binding: Binding, now: float) -> BindingReason | None:
    """By its state and, while it drains, its deadline."""
    endpoints = rule.named[binding.endpoint]
    drain = rule.scope.policy.drain_timeout
    for endpoint in endpoints:
        if now < endpoint.kept_until(drain):
            return None
    return endpoints[0].loss


def not_rebalanced(rule: Rule, binding: Binding, now: float) -> BindingReason | None:
    """An idle session of a pod that has more than others may be asked to move."""
    mover = rule.scope.mover
    return BindingReason.REBALANCED if mover is not None and mover.moves(rule, binding, now) else None


CHECKS: Final[tuple[Check, ...]] = (
    epoch_is_current,
    absolute_timer_runs,
    idle_timer_runs,
    not_released,
    endpoint_is_known,
    endpoint_keeps_sessions,
    not_rebalanced,
)
"""In this order; each relies on those before it."""


def first_failure(rule: Rule, binding: Binding, now: float) -> BindingReason | None:
    """Why the binding holds no more; None: it holds."""
    for check in CHECKS:
        reason = check(rule, binding, now)
        if reason is not None:
            return reason
    return None
