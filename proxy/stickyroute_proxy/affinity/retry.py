"""Where a request goes next whose endpoint took no connection or has no room; and what long answers carry."""

from collections.abc import Collection
from copy import copy
from random import Random

from stickyroute_api.reasons import MOVED, BindingReason
from stickyroute_proxy.affinity.bind import followed, reseal
from stickyroute_proxy.affinity.decision import HOME, NOTICES, Decision, Lost, lodges
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.failover import fail_over, moved, none
from stickyroute_proxy.affinity.keys import Facts
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.scope import Kind, Scope
from stickyroute_proxy.affinity.token import LONG_LIVED, Binding


def rechoose(
    rule: Rule, facts: Facts, failed: Decision, now: float, random: Random, *, tried: Collection[Endpoint]
) -> Decision:
    """The next decision for a request whose endpoint, and all others in `tried`, took no connection.

    A session that was bound fails over with reason ConnectFailed; a new one, or one that was just moving,
    keeps its reason and goes elsewhere. `endpoint` is None when there is no other.
    """
    if failed.endpoint is not None:
        tried = {failed.endpoint, *tried}
    binding = followed(rule.scope, failed)
    if binding is None:
        return _free_again(rule, facts, failed, tried, random)
    if failed.reason in HOME:
        other = rule.of_cohort(binding.endpoint, now, random, tried)
        if other is not None:
            return _at(other, failed)
        return fail_over(rule, Lost(binding, failed.token, BindingReason.CONNECT_FAILED), now, tried=tried)
    moving = failed.reason in MOVED
    if moving:
        endpoint = rule.balancer.repin(binding.session, tried)
    else:
        endpoint = rule.balancer.pick_untried(facts, tried, random)
    if endpoint is None:
        return none(rule.scope)
    if lodges(failed):
        return _at(endpoint, failed)
    bound = moved(rule.scope, binding, endpoint, now)
    if moving:
        return reseal(rule.scope, bound, endpoint, failed.reason, now)
    return _bound_to(rule.scope, bound, endpoint, failed)


def sidestep(
    rule: Rule, facts: Facts, full: Decision, room: int, random: Random, *, tried: Collection[Endpoint]
) -> Decision:
    """The decision for a request whose endpoint has no room: a session that just begins goes elsewhere.

    The same decision where no other has room (fewer requests in flight than that) either, or where the
    session belongs to the endpoint: by its binding or, without one, by its hashed value, which is all that
    its next request will bring too. Those in `tried` took no connection.
    """
    if full.reason in HOME or full.reason in MOVED:
        return full
    scope = rule.scope
    binding = followed(scope, full)
    if binding is None and rule.balancer.hashes(facts):
        return full
    endpoint = rule.balancer.pick_below(
        facts, lambda one: one.in_flight < room and not one.queue and one not in tried, random
    )
    if endpoint is None:
        return full
    if binding is None:
        return Decision(endpoint, full.reason)
    bound = moved(scope, binding, endpoint, binding.bound)
    return _bound_to(scope, bound, endpoint, full)


def prolong(rule: Rule, decision: Decision, now: float) -> bytes | None:
    """The token for an answer that begins a tunnel or an event stream: only its absolute timer counts.

    None where the decision follows no binding, or only lodges the session.
    """
    scope = rule.scope
    if decision.token is None or lodges(decision):
        return None
    binding = followed(scope, decision)
    if binding is None:
        return None
    return scope.keyring.seal(binding._replace(sealed=now, flags=binding.flags | LONG_LIVED), scope.identity)


def _free_again(
    rule: Rule, facts: Facts, failed: Decision, tried: Collection[Endpoint], random: Random
) -> Decision:
    """Another endpoint for a request without a binding; one with a value had its own."""
    endpoint = rule.balancer.pick_untried(facts, tried, random)
    if endpoint is None:
        return none(rule.scope)
    if failed.reason not in HOME:
        return Decision(endpoint, failed.reason, notice=failed.notice)
    reason = BindingReason.CONNECT_FAILED
    rule.scope.count(reason)
    return Decision(endpoint, reason, notice=NOTICES[reason])


def _bound_to(scope: Scope, binding: Binding, endpoint: Endpoint, before: Decision) -> Decision:
    """A session that begins begins elsewhere; it is known once it comes back."""
    if scope.sessions.quota is not None:
        scope.sessions.quota.shift(binding.session, endpoint)
    token = None if scope.kind is Kind.STORED else scope.keyring.seal(binding, scope.identity)
    return Decision(endpoint, before.reason, token, before.notice, token, binding=binding)


def _at(endpoint: Endpoint, before: Decision) -> Decision:
    """All as it was, but for the endpoint."""
    decision = copy(before)
    decision.endpoint = endpoint
    return decision
