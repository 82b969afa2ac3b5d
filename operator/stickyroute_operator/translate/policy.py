"""What a valid spec says that could not work: refused by name, never silently inert."""

from collections.abc import Iterator

from stickyroute_api import spec as api
from stickyroute_api.duration import parse_duration
from stickyroute_api.problem import Problem, of_given

_UNBOUND = frozenset({"None", "QueryParam", "SourceIP"})
"""Types that keep no binding: there is nothing to hold, move or count. A drain has WebSockets to wait for."""


def futile(spec: api.StickyRouteSpec) -> list[Problem]:
    """The fields that could have no effect, each with the remedy."""
    problems = [*_health(spec.health_check)]
    for index, rule in enumerate(spec.rules):
        if rule.redirects:
            continue
        own = rule.persistence is not None
        path = f"spec.rules[{index}].persistence" if own else "spec.persistence"
        policy = rule.persistence or spec.persistence
        problems += [*_unbound(path, policy), *_pods(path, policy)]
        problems += [*_policy(path, policy), *_in_rule(path, policy, index, rule)]
    return list(dict.fromkeys(problems))


def _unbound(path: str, policy: api.Persistence) -> Iterator[Problem]:
    if policy.type not in _UNBOUND:
        return
    given = {
        "bindTo": policy.bind_to != "Pod" and policy.type == "None",
        "failover.mode": policy.failover.mode != "Repin",
        "failover.hold": parse_duration(policy.failover.hold) > 0,
        **_by_pod(policy),
    }
    yield from of_given(
        path,
        given,
        f"is about sessions, and type {policy.type} keeps none: remove it, or choose another type, such as"
        " Cookie",
    )


def _by_pod(policy: api.Persistence) -> dict[str, bool]:
    """What counts the sessions of each pod, and whether it is given."""
    return {
        "limits.maxSessionsPerPod": policy.limits.max_sessions_per_pod > 0,
        "rebalance.sessionsPerMinute": policy.rebalance.sessions_per_minute > 0,
        "podDeletionCost": policy.pod_deletion_cost,
    }


def _pods(path: str, policy: api.Persistence) -> Iterator[Problem]:
    """What is about single pods, where no session belongs to one."""
    if policy.bind_to == "Cohort" and policy.type not in _UNBOUND:
        yield from of_given(
            path,
            _by_pod(policy),
            "counts the sessions of each pod, and with bindTo Cohort any pod of a version serves them: remove"
            " it, or set bindTo to Pod or StatefulPod",
        )
    if policy.limits.max_requests_per_pod and policy.type in {"QueryParam", "SourceIP"}:
        yield Problem(
            f"{path}.limits.maxRequestsPerPod",
            f"sends new sessions elsewhere, and with type {policy.type} each request belongs where its value"
            " leads: remove it, and bound the queue by the rule's limits.requestsPerEndpoint",
        )


def _policy(path: str, policy: api.Persistence) -> Iterator[Problem]:
    limits, rebalance = policy.limits, policy.rebalance
    if limits.overflow != "OtherPod" and not (limits.max_sessions_per_pod or limits.max_requests_per_pod):
        yield Problem(
            f"{path}.limits.overflow",
            "says what happens at a limit, and there is none: set maxSessionsPerPod or maxRequestsPerPod,"
            " or remove overflow",
        )
    if rebalance.sessions_per_minute and policy.idle_timeout is None and policy.type not in _UNBOUND:
        yield Problem(
            f"{path}.rebalance.sessionsPerMinute",
            "needs idleTimeout: with it tokens tell when their session was used last; set it, or remove"
            " rebalance",
        )
    if (
        rebalance.sessions_per_minute
        and policy.idle_timeout is not None
        and parse_duration(rebalance.idle_for) >= parse_duration(policy.idle_timeout)
    ):
        yield Problem(
            f"{path}.rebalance.idleFor",
            f"{rebalance.idle_for} is not shorter than idleTimeout {policy.idle_timeout}: a session that was"
            " idle for so long has ended; shorten idleFor",
        )


def _in_rule(path: str, policy: api.Persistence, index: int, rule: api.Rule) -> Iterator[Problem]:
    hold, request = parse_duration(policy.failover.hold), parse_duration(rule.timeouts.request)
    if 0 < request <= hold:
        yield Problem(
            f"{path}.failover.hold",
            f"{policy.failover.hold} is not shorter than spec.rules[{index}].timeouts.request"
            f" {rule.timeouts.request}: the request would end first; shorten hold, or lengthen request",
        )
    if policy.limits.overflow == "Queue" and not rule.limits.queue:
        yield Problem(
            f"{path}.limits.overflow",
            f"Queue needs room in a queue, and spec.rules[{index}].limits.queue is 0: raise it, or choose"
            " OtherPod or Reject",
        )


def _health(check: api.HealthCheck | None) -> Iterator[Problem]:
    if check is None:
        return
    if check.active is None and check.passive is None:
        yield Problem("spec.healthCheck", "checks nothing: give active, passive or both, or remove it")
    if check.passive is not None and not check.passive.max_ejected_percent:
        yield Problem(
            "spec.healthCheck.passive.maxEjectedPercent",
            "0 lets no pod be ejected: raise it, or remove passive",
        )
