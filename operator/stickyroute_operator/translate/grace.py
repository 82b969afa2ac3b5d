"""Pods that are killed before their drain is over."""

from collections.abc import Iterable
from math import ceil

from stickyroute_api.duration import format_duration
from stickyroute_api.reasons import ConditionReason
from stickyroute_operator.pods import Pod
from stickyroute_operator.translate.verdicts import Verdict

MARGIN = 10.0
"""Seconds behind a drain in which its tunnels are closed, spread over half of them."""
_SHOWN = 4


def too_short(drains: Iterable[tuple[float, Iterable[Pod]]]) -> Verdict | None:
    """What is to be told of pods whose grace period is shorter than the drain of a scope that they serve.

    `drains`: each rule's drain in seconds, and its pods.
    """
    found: dict[str, tuple[float, float]] = {}
    for drain, pods in drains:
        if not drain:
            continue
        for pod in pods:
            if pod.grace < drain + MARGIN:
                owner = " ".join((pod.owner or f"Pod/{pod.name}").split("/"))
                grace, longest = found.get(owner, (pod.grace, drain))
                found[owner] = min(grace, pod.grace), max(longest, drain)
    if not found:
        return None
    messages = [_message(owner, *found[owner]) for owner in sorted(found)]
    rest = f"; and {len(messages) - _SHOWN} more" if len(messages) > _SHOWN else ""
    return Verdict(True, ConditionReason.GRACE_PERIOD_TOO_SHORT, "; ".join(messages[:_SHOWN]) + rest)


def _message(owner: str, grace: float, drain: float) -> str:
    alone = owner.startswith("Pod ")
    who, whose = (f"{owner} is", "its") if alone else (f"Pods of {owner} are", "their")
    field = "spec" if alone else "spec.template.spec"
    return (
        f"{who} killed {grace:g} s after {whose} deletion, before drainTimeout {format_duration(drain)} and"
        f" {MARGIN:g} s to close tunnels are over: set {field}.terminationGracePeriodSeconds of {owner} to"
        f" {ceil(drain + MARGIN)} or more, or shorten drainTimeout"
    )
