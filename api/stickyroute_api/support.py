"""What this version of StickyRoute does not serve yet: refused by name, never silently inert."""

from collections.abc import Iterator

from stickyroute_api.duration import parse_duration
from stickyroute_api.persistence import Persistence
from stickyroute_api.problem import Problem
from stickyroute_api.spec import StickyRouteSpec


def unsupported(spec: StickyRouteSpec) -> list[Problem]:
    """Fields of a valid spec that this version does not serve, each with what to do instead."""
    return list(_unsupported(spec))


def _unsupported(spec: StickyRouteSpec) -> Iterator[Problem]:
    if spec.health_check is not None:
        yield Problem(
            "spec.healthCheck",
            "health checks are not served by this version: remove healthCheck, pods have readiness probes",
        )
    if spec.overrides:
        yield Problem("spec.overrides", "overrides are not served by this version: remove them")
    yield from _persistence("spec.persistence", spec.persistence)
    for index, rule in enumerate(spec.rules):
        if rule.persistence is not None:
            yield from _persistence(f"spec.rules[{index}].persistence", rule.persistence)


def _persistence(path: str, policy: Persistence) -> Iterator[Problem]:
    if policy.type not in {"Cookie", "None"}:
        yield Problem(f"{path}.type", f"{policy.type} is not served by this version: use Cookie or None")
    if policy.bind_to != "Pod":
        yield Problem(f"{path}.bindTo", f"{policy.bind_to} is not served by this version: use Pod")
    if policy.failover.mode != "Repin":
        yield Problem(
            f"{path}.failover.mode", f"{policy.failover.mode} is not served by this version: use Repin"
        )
    if parse_duration(policy.failover.hold) > 0:
        yield Problem(f"{path}.failover.hold", "holding requests is not served by this version: remove hold")
    if parse_duration(policy.drain_timeout) > 0:
        yield Problem(
            f"{path}.drainTimeout",
            "draining is not served by this version: remove drainTimeout or set it to 0s",
        )
    if policy.limits.max_sessions_per_pod:
        yield Problem(
            f"{path}.limits.maxSessionsPerPod",
            "limits are not served by this version: remove maxSessionsPerPod",
        )
    if policy.limits.max_requests_per_pod:
        yield Problem(
            f"{path}.limits.maxRequestsPerPod",
            "limits are not served by this version: remove maxRequestsPerPod",
        )
    if policy.rebalance.sessions_per_minute:
        yield Problem(
            f"{path}.rebalance.sessionsPerMinute",
            "rebalancing is not served by this version: remove sessionsPerMinute",
        )
    if policy.pod_deletion_cost:
        yield Problem(
            f"{path}.podDeletionCost", "deletion costs are not served by this version: remove podDeletionCost"
        )
