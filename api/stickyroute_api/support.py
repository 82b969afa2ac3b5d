"""What no version of StickyRoute could serve as it is said: refused by name, never silently inert."""

from collections.abc import Iterator

from stickyroute_api.persistence import Persistence
from stickyroute_api.problem import Problem, of_given
from stickyroute_api.spec import StickyRouteSpec


def unsupported(
    spec: StickyRouteSpec, *, has_store: bool = True, may_cost: bool = True, alone: bool = False
) -> list[Problem]:
    """Fields of a valid spec that are not served, each with what to do instead.

    `has_store`: the fleet has one, for `learn.mode` Store; `may_cost`: its operator may write to pods, for
    `podDeletionCost`; `alone`: a proxy serves without an operator.
    """
    problems = list(_persistence("spec.persistence", spec.persistence, has_store=has_store))
    policies = [("spec.persistence", spec.persistence)]
    for index, rule in enumerate(spec.rules):
        if rule.persistence is not None:
            path = f"spec.rules[{index}].persistence"
            problems += _persistence(path, rule.persistence, has_store=has_store)
            policies.append((path, rule.persistence))
    for path, policy in policies:
        problems += _operators(path, policy) if alone else _pods(path, policy, may_cost=may_cost)
    return problems


def _operators(path: str, policy: Persistence) -> Iterator[Problem]:
    """What the operator does, where there is none."""
    given = {
        "rebalance.sessionsPerMinute": policy.rebalance.sessions_per_minute > 0,
        "podDeletionCost": policy.pod_deletion_cost,
    }
    return of_given(
        path,
        given,
        "is the operator's work, and stickyroute serve has none: remove it, or serve the route in a cluster",
    )


def _pods(path: str, policy: Persistence, *, may_cost: bool) -> Iterator[Problem]:
    if policy.pod_deletion_cost and not may_cost:
        yield Problem(
            f"{path}.podDeletionCost",
            "the operator may not write to pods: set podDeletionCost.enabled in the chart's values, or remove"
            " it",
        )
    if policy.rebalance.sessions_per_minute and policy.learn is not None and policy.learn.mode == "Store":
        yield Problem(
            f"{path}.rebalance.sessionsPerMinute",
            "needs a token of ours, which tells that its session was idle; a learned key does not: remove it,"
            " or use type Cookie",
        )


def _persistence(path: str, policy: Persistence, *, has_store: bool) -> Iterator[Problem]:
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
            " or use type Cookie",
        )
    mode = policy.failover.mode
    if mode == "Redirect" or (mode == "Reject" and policy.type == "AppCookie"):
        yield Problem(
            f"{path}.failover.mode",
            f"{mode} would answer for ever: a key in an envelope is the application's, and cannot be taken"
            " back from the client; use learn.mode Store, or failover.mode Repin",
        )
