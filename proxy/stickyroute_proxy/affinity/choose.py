"""Which endpoint a request goes to, and why.

A request's token is looked up among those already opened, or opened, and its binding goes through `checks`.
A binding that holds decides. One that does not is `failover`'s if its session lost its pod, and is as good as
none if it ended by its own timer. A bad token is no token. What has no binding is placed by its value, where
the policy says so, and else balanced. What comes of an endpoint that takes no connection is `retry`'s.

Synchronous; time and randomness come from the caller; nothing changes but counters and what is known of
sessions, on which no decision depends.
"""

from random import Random
from typing import Final

from stickyroute_api.reasons import EXPIRED, BindingReason
from stickyroute_proxy.affinity.bind import begin, keep, place
from stickyroute_proxy.affinity.checks import first_failure
from stickyroute_proxy.affinity.decision import NOTICES, Decision, Lost
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.failover import fail_over, full, none
from stickyroute_proxy.affinity.keys import Facts
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.scope import Kind
from stickyroute_proxy.affinity.sessions import mark
from stickyroute_proxy.affinity.token import LENGTH, SEPARATOR, SESSION_BYTES, Binding

MAX_FORGED: Final = 3
"""So many values of a token's length that are none are tried: who makes them up is to win no time of ours."""
_AFTER: Final = (b"", SEPARATOR)
"""What may follow a token's length: others are refused at a look."""
_BOUND: Final = BindingReason.BOUND
"""To look up a member of an enumeration costs a percent of a request."""


def choose(rule: Rule, facts: Facts, now: float, random: Random) -> Decision:
    """The decision for a request, but of a stored scope whose binding is known: that is `choose_bound`'s."""
    scope = rule.scope
    if not scope.sticky:
        return _free(rule, facts, now, random)
    tokens = scope.presented(facts)
    if not tokens:
        return _begin(rule, facts, BindingReason.NEW, now, random)
    token = tokens[0]
    shown, digest, bound = facts.bound
    if shown != token:
        digest, bound = mark(token), None
        facts.bound = token, digest, bound
    session = scope.sessions.known.tokens.get(digest)
    if session is not None and session.place.scope is scope.sessions and now < session.recheck:
        # Opened before, and it held: nothing can have changed but the endpoint.
        endpoint = rule.members.get(session.place.key)
        if endpoint is None and rule.cohorts:
            endpoint = rule.of_cohort(session.place.key, now, random)
        if endpoint is not None and now < endpoint.keep_until:
            session.used = scope.sessions.known.second
            scope.bound += 1
            if bound is None or bound.endpoint is not endpoint:
                bound = Decision(endpoint, _BOUND, None, None, token)
                facts.bound = token, digest, bound
            return bound
    return _examine(rule, facts, tokens, now, random)


def choose_bound(
    rule: Rule, facts: Facts, binding: Binding | None, now: float, random: Random, *, key: bytes = b""
) -> Decision:
    """The decision for a request of a stored scope, by the binding that was found for its value.

    `Decision.binding` is the one to keep from now on, where it is new or has changed. `key` stands for a
    value of which no binding is known.
    """
    if binding is None:
        if key:
            return _begin_at(rule, key, BindingReason.NEW, now)
        return _begin(rule, facts, BindingReason.NEW, now, random)
    reason = first_failure(rule, binding, now)
    if reason is None:
        return keep(rule, binding, None, _endpoint(rule, binding, now, random), now)
    return _lost(rule, facts, Lost(binding, None, reason), now, random)


def _examine(rule: Rule, facts: Facts, tokens: list[bytes], now: float, random: Random) -> Decision:
    """The decision by the first token whose binding holds, else by the first that is one of ours."""
    scope = rule.scope
    lost: Lost | None = None
    refusal: BindingReason | None = None
    forged = 0
    for token in tokens:
        opened = scope.keyring.open(token, scope.identity)
        if not isinstance(opened, Binding):
            refusal = refusal or opened
            if opened is BindingReason.INVALID_TOKEN and token[LENGTH : LENGTH + 1] in _AFTER:
                forged += len(token) >= LENGTH
                if forged == MAX_FORGED:
                    break
            continue
        reason = first_failure(rule, opened, now)
        if reason is None:
            return keep(rule, opened, token, _endpoint(rule, opened, now, random), now)
        lost = lost or Lost(opened, token, reason)
    if lost is None:
        if refusal is BindingReason.KEY_RETIRED and (
            not scope.fixed or scope.sessions.known.begins(mark(tokens[0]))
        ):
            scope.end(refusal)
        return _begin(rule, facts, refusal or BindingReason.INVALID_TOKEN, now, random)
    return _lost(rule, facts, lost, now, random)


def _endpoint(rule: Rule, binding: Binding, now: float, random: Random) -> Endpoint:
    """The one that a binding which holds names; of several the best that keeps sessions, or the next."""
    endpoints = rule.named[binding.endpoint]
    if len(endpoints) == 1:
        return endpoints[0]
    found = rule.of_cohort(binding.endpoint, now, random)
    drain = rule.scope.policy.drain_timeout
    return found or next(one for one in endpoints if now < one.kept_until(drain))


def _lost(rule: Rule, facts: Facts, lost: Lost, now: float, random: Random) -> Decision:
    if lost.reason in EXPIRED:
        if rule.scope.fixed or rule.scope.stored:
            return _begin_at(rule, lost.binding.session, lost.reason, now, lost.binding.created)
        rule.scope.end(lost.reason)
        return _begin(rule, facts, lost.reason, now, random)
    return fail_over(rule, lost, now)


def _begin(rule: Rule, facts: Facts, reason: BindingReason, now: float, random: Random) -> Decision:
    """A new session, placed by balance."""
    endpoint = rule.balancer.pick(facts, now, random)
    if endpoint is None:
        return none(rule.scope)
    if rule.scope.sessions.quota is not None:
        endpoint = _below(rule, facts, endpoint, random)
        if endpoint is None:
            return full(rule.scope)
    return begin(rule, endpoint, reason, now, random)


def _begin_at(rule: Rule, number: bytes, reason: BindingReason, now: float, created: float = 0.0) -> Decision:
    """A new session of a client that goes on showing an old key: where every proxy would place it.

    It begins with each request anew until the client shows another, and takes one place, and counts once,
    all the same. `created`: when the one before it was that has ended.
    """
    scope, session = rule.scope, number[:SESSION_BYTES]
    quota = scope.sessions.quota
    is_first = scope.sessions.known.begins(number, created)
    if is_first and reason in EXPIRED:
        scope.end(reason)
    endpoint = rule.balancer.begin_at(number)
    if endpoint is None:
        return none(scope)
    if quota is None:
        scope.new += is_first
    elif quota.began(session) != endpoint.id:
        if not rule.balancer.takes(endpoint):
            return full(scope)
        scope.new += 1
    scope.count(reason)
    return place(rule, session, endpoint, reason, now)


def _below(rule: Rule, facts: Facts, endpoint: Endpoint, random: Random) -> Endpoint | None:
    """That endpoint if it is below the scope's limits, else another that is, where sessions may overflow."""
    balancer = rule.balancer
    if balancer.takes(endpoint):
        return endpoint
    if rule.scope.policy.limits.overflow == "Reject":
        return None
    return balancer.pick_below(facts, lambda _: True, random)


def _free(rule: Rule, facts: Facts, now: float, random: Random) -> Decision:
    """Nothing is kept of it: by its value, or balanced."""
    scope = rule.scope
    reason, endpoint = BindingReason.UNPINNED, None
    if scope.kind is Kind.HASHED:
        reason, endpoint = rule.balancer.by_value(facts)
    if endpoint is None:
        endpoint = rule.balancer.pick(facts, now, random)
        if endpoint is None:
            return none(scope)
        if scope.sessions.quota is not None:
            endpoint = _below(rule, facts, endpoint, random)
            if endpoint is None:
                return full(scope)
    scope.count(reason)
    if reason is BindingReason.ENDPOINTS_CHANGED:
        scope.moved += 1
        scope.end(reason)
    return Decision(endpoint, reason, notice=NOTICES.get(reason))
