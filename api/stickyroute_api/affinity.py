"""The affinity report: what a proxy knows of sessions and moves, pulled by the operator.

Session ids are carried as 8-byte digests, concatenated and base64-encoded, so that a session that several
proxies see counts once. When they are many, only those whose first byte is below `sample * 256` are carried
and the error is stated by `sample`.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Snapshot

ID_BYTES: Final = 8
"""The length of one session id in a report."""
DEFAULT_WINDOW: Final = 1800.0
"""Seconds without a request after which a session no longer counts as active, where no idle timer says."""

WORST: Final = (EndpointState.UNHEALTHY, EndpointState.EJECTED, EndpointState.AT_LIMIT)
"""What proxies find of endpoints, the worst first."""


def windows(snapshot: Snapshot) -> dict[str, float]:
    """By scope, the seconds after which a session without a request no longer counts: its rules' longest."""
    found: dict[str, float] = {}
    for route in snapshot.routes.values():
        for rule in route.rules:
            scope, idle = f"{route.key}/{rule.scope}", rule.persistence.idle_timeout
            found[scope] = max(found.get(scope, 0.0), DEFAULT_WINDOW if idle is None else idle)
    return found


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class EndpointSessions(_Wire):
    """Sessions of one scope on one endpoint, as one proxy knows them."""

    endpoint: str
    """`Endpoint.id` of the snapshot."""
    pod: str
    service: str
    active: int = Field(ge=0)
    """Used within the idle timer, token seen at least once."""
    in_flight: int = Field(ge=0)
    ids: str = ""
    """The active sessions' ids."""
    placed: int = Field(ge=0, default=0)
    """New sessions placed there since `AffinityReport.started`."""
    pending: int = Field(ge=0, default=0)
    """Of these, those whose token has not come back here yet; after a minute it is not waited for."""
    pending_ids: str = ""
    """Theirs: they may have come back to another proxy."""
    ceiling: int | None = Field(ge=0, default=None)
    """New sessions are placed there while `placed` is below it; None: without such a limit."""
    rebalanced: int = Field(ge=0, default=0)
    """Sessions that were moved away since `AffinityReport.started`, for others have fewer."""
    tunnels: int = Field(ge=0, default=0)
    """Open tunnels."""
    state: EndpointState | None = None
    """AtLimit, Ejected or Unhealthy, where this proxy finds it so."""


class Departure(_Wire):
    """Sessions that lost their endpoint for one reason."""

    time: float
    endpoint: str
    pod: str
    reason: BindingReason
    dropped: int = Field(ge=0)
    """Active sessions that were bound to it, as this proxy knew them."""
    moved: int = Field(ge=0)
    """Those that have come back and were bound elsewhere."""
    ids: str = ""
    """The dropped and moved sessions' ids."""


class Clash(_Wire):
    """Cookies or headers of the application's that went no further, for we give one of that name."""

    times: int = Field(ge=0)
    last: float
    """When it last happened, Unix seconds."""


Clashes = Mapping[str, Clash]
"""By `snapshot.Persistence.ours`, as the policy was then."""


def together(one: Clashes, other: Clashes) -> dict[str, Clash]:
    """The clashes that two have counted."""
    found = {**one, **other}
    for what in one.keys() & other.keys():
        a, b = one[what], other[what]
        found[what] = Clash(times=a.times + b.times, last=max(a.last, b.last))
    return found


class ScopeReport(_Wire):
    """Counts since `AffinityReport.started`, and the present."""

    new: int = 0
    moved: int = 0
    expired: int = 0
    rejected: int = 0
    restarted: int = 0
    """Sessions whose application was told of a restarted container."""
    ended: dict[BindingReason, int] = {}
    """Ends of sessions, and moves of values, that no departure tells of: timers, retired keys."""
    clashes: dict[str, Clash] = {}
    endpoints: tuple[EndpointSessions, ...] = ()
    departures: tuple[Departure, ...] = ()
    """The newest few, newest first."""


class AffinityReport(_Wire):
    """The answer of `GET /v1/affinity`."""

    proxy: str
    started: float
    epoch: int
    revision: int
    leased: tuple[int, int] = (0, 0)
    """Epoch and sequence of the leases by which ceilings are as they are; zeros: without any."""
    sample: float = Field(gt=0, le=1, default=1.0)
    scopes: dict[str, ScopeReport]
    """By scope identity, `namespace/route/scope`."""
