"""What no version of StickyRoute could serve as it is said: refused by name, never silently inert."""

from collections.abc import Iterator

from stickyroute_api.persistence import Persistence
from stickyroute_api.problem import Problem
from stickyroute_api.spec import StickyRouteSpec


def unsupported(spec: StickyRouteSpec, *, has_store: bool = True) -> list[Problem]:
    """Fields of a valid spec that are not served, each with what to do instead.

    `has_store`: the fleet has one, for `learn.mode` Store.
    """
    return list(_unsupported(spec, has_store=has_store))


def _unsupported(spec: StickyRouteSpec, *, has_store: bool) -> Iterator[Problem]:
    yield from _persistence("spec.persistence", spec.persistence, has_store=has_store)
    for index, rule in enumerate(spec.rules):
        if rule.persistence is not None:
            yield from _persistence(f"spec.rules[{index}].persistence", rule.persistence, has_store=has_store)


def _not_yet(path: str, policy: Persistence) -> Iterator[Problem]:
    """What this version does not serve."""
    limits = policy.limits
    for field, given in {
        "limits.maxSessionsPerPod": limits.max_sessions_per_pod,
        "limits.maxRequestsPerPod": limits.max_requests_per_pod,
        "rebalance.sessionsPerMinute": policy.rebalance.sessions_per_minute,
        "podDeletionCost": policy.pod_deletion_cost,
    }.items():
        if given:
            yield Problem(f"{path}.{field}", "is not served by this version: remove it")


def _persistence(path: str, policy: Persistence, *, has_store: bool) -> Iterator[Problem]:
    yield from _not_yet(path, policy)
    if policy.learn is None:
        return
    if policy.learn.mode == "Store":
        if not has_store:
            yield Problem(
                f"{path}.learn.mode",
                "Store needs a Valkey server, and this fleet has none: set store.address in the chart's"
                " values (stickyroute serve: in the settings file), or use mode Envelope",
            )
        return
    if policy.rebalance.sessions_per_minute:
        yield Problem(
            f"{path}.rebalance.sessionsPerMinute",
            "a session in an envelope stays where the application's value says, whatever is moved: remove it,"
            " or use learn.mode Store",
        )
    mode = policy.failover.mode
    if mode == "Redirect" or (mode == "Reject" and policy.type == "AppCookie"):
        yield Problem(
            f"{path}.failover.mode",
            f"{mode} would answer for ever: a key in an envelope is the application's, and cannot be taken"
            " back from the client; use learn.mode Store, or failover.mode Repin",
        )
