"""What this version of StickyRoute does not serve yet: refused by name, never silently inert."""

from collections.abc import Iterator

from stickyroute_api.persistence import Persistence
from stickyroute_api.problem import Problem
from stickyroute_api.spec import StickyRouteSpec


def unsupported(spec: StickyRouteSpec) -> list[Problem]:
    """Fields of a valid spec that this version does not serve, each with what to do instead."""
    return list(_unsupported(spec))


def _unsupported(spec: StickyRouteSpec) -> Iterator[Problem]:
    yield from _persistence("spec.persistence", spec.persistence)
    for index, rule in enumerate(spec.rules):
        if rule.persistence is not None:
            yield from _persistence(f"spec.rules[{index}].persistence", rule.persistence)


def _persistence(path: str, policy: Persistence) -> Iterator[Problem]:
    if policy.type not in {"Cookie", "None"}:
        yield Problem(f"{path}.type", f"{policy.type} is not served by this version: use Cookie or None")
