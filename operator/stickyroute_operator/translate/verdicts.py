"""What a translation says of each route: the two conditions that depend on the objects alone."""

from dataclasses import dataclass

from stickyroute_api.reasons import ConditionReason, ConditionType
from stickyroute_api.snapshot import Endpoint, Override
from stickyroute_operator.objects import RouteObject
from stickyroute_operator.pods import Pod


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a reference, or a part of what it names, is not used; or what is soon to be wrong with it."""

    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its times."""

    status: bool
    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    route: RouteObject
    accepted: Verdict
    resolved: Verdict
    hosts: tuple[str, ...]
    """Empty: any host."""
    persistence: str
    scopes: tuple[str, ...] = ()
    """The identities of the route's scopes."""
    ours: tuple[tuple[str, str], ...] = ()
    """Of each scope that is served and gives clients tokens its identity, and `Persistence.ours`."""
    endpoints: tuple[tuple[str, Endpoint], ...] = ()
    """Service name and endpoint, each once, in order of names."""
    needs_endpoints: bool = True
    """Whether any rule sends requests to pods."""
    deletion_costs: tuple[str, ...] = ()
    """The identities of the scopes whose sessions make their pods' deletion cost."""
    overrides: tuple[Override, ...] = ()
    warnings: tuple[tuple[ConditionType, Verdict], ...] = ()
    """Further conditions, there only while they are True."""
    pods: tuple[Pod, ...] = ()
    """Those that are known of the endpoints."""
