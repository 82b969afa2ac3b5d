"""The status of a StickyRoute, as `kubectl describe` shows it. Lists are capped and the cap is said."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from stickyroute_api.reasons import BindingReason, ConditionReason, ConditionType, EndpointState

MAX_ENDPOINTS = 100
MAX_MOVES = 10


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Condition(Model):
    """As `metav1.Condition`."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: ConditionReason
    message: Annotated[str, Field(max_length=32768)]
    observed_generation: int
    last_transition_time: datetime


class Fleet(Model):
    proxies: int
    current: int
    """Those that serve `revision`."""
    revision: str


class Sessions(Model):
    """Counts of the route's sessions over all proxies since `counted_since`; `active` is the present."""

    active: int = 0
    new: int = 0
    moved: int = 0
    expired: int = 0
    rejected: int = 0
    counted_since: datetime


class EndpointStatus(Model):
    pod: str
    service: str
    state: EndpointState
    sessions: int
    requests: int
    """In flight now."""
    since: datetime
    """When it took this state."""


class Move(Model):
    """Sessions that lost their pod."""

    time: datetime
    pod: str
    reason: BindingReason
    sessions: int


class StickyRouteStatus(Model):
    observed_generation: int
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)]
    hosts: str
    """For the printer column: the hosts, `*` for any."""
    persistence: str
    """For the printer column: the persistence type."""
    fleet: Fleet | None = None
    endpoints_ready: str = "0/0"
    sessions: Sessions | None = None
    endpoints: Annotated[tuple[EndpointStatus, ...], Field(max_length=MAX_ENDPOINTS)] = ()
    endpoints_omitted: int = 0
    """How many endpoints the cap left out."""
    last_moves: Annotated[tuple[Move, ...], Field(max_length=MAX_MOVES)] = ()
    """The newest few, newest first."""
