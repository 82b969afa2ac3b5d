"""The status of a StickyRoute, as `kubectl describe` shows it. Lists are capped and the cap is said."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, computed_field
from pydantic.alias_generators import to_camel

from stickyroute_api.reasons import BindingReason, ConditionReason, ConditionType, EndpointState

MAX_ENDPOINTS = 100
MAX_MOVES = 10
MAX_ENDS = 16

Name = Annotated[str, StringConstraints(max_length=253)]


class Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


class Condition(Model):
    """As `metav1.Condition`."""

    type: ConditionType
    """Accepted, ResolvedRefs, Programmed or Ready; CookieConflict and GracePeriodTooShort while True."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: ConditionReason
    """One word for why."""
    message: Annotated[str, Field(max_length=32768)]
    """What is so, and what to do."""
    observed_generation: int
    """The object's generation that this is about."""
    last_transition_time: datetime
    """When `status` last changed."""


class Fleet(Model):
    """The proxies that serve the route."""

    proxies: int
    """All that are ready."""
    current: int
    """Those that serve `revision`."""
    revision: Annotated[str, StringConstraints(max_length=64)]
    """The snapshot that is wanted, as epoch.revision."""

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def in_sync(self) -> Annotated[str, StringConstraints(max_length=32)]:
        """`current` of `proxies`, such as 3/3, for the printer column."""
        return f"{self.current}/{self.proxies}"


class Ended(Model):
    """Sessions that ended for one reason, their pod having no part in it."""

    reason: BindingReason
    """One word for why."""
    sessions: int
    """How many."""


class Sessions(Model):
    """Counts of the route's sessions over all proxies since `countedSince`; `active` is the present."""

    active: int = 0
    """Used within idleTimeout."""
    new: int = 0
    """Begun."""
    moved: int = 0
    """That lost their pod."""
    expired: int = 0
    """That ended by their own timer."""
    rejected: int = 0
    """That got an error because no pod could take them."""
    restarted: int = 0
    """Whose application was told that its pod's memory is gone."""
    ended: Annotated[
        tuple[Ended, ...],
        Field(
            max_length=MAX_ENDS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["reason"]},
        ),
    ] = ()
    """By reason, those that ended though no pod was lost: by a timer, or as a key was retired;
    and values that moved."""
    counted_since: datetime
    """When the oldest running proxy began to count."""


class EndpointStatus(Model):
    """One pod and its sessions."""

    pod: Name
    """The pod's name, or its address where no pod is known."""
    service: Name
    """The Service that lists it."""
    state: EndpointState
    """What it takes: Serving takes all; the others take no new sessions, Unhealthy, NotReady and Disabled
    none at all."""
    found_by: Annotated[str, StringConstraints(max_length=32)] = ""
    """How many proxies find it AtLimit, Ejected or Unhealthy, such as 1/3; the others see it as Serving."""
    restarts: int = 0
    """Of its containers: each ended what sessions had in its memory."""
    sessions: int
    """Active sessions."""
    requests: int
    """In flight now."""
    since: datetime
    """When it took this state."""


class Move(Model):
    """Sessions that lost their pod."""

    time: datetime
    """When."""
    pod: Name
    """The pod that they lost."""
    reason: BindingReason
    """One word for why."""
    sessions: int
    """How many."""


class StickyRouteStatus(Model):
    """What the operator and the proxies know of the route."""

    observed_generation: int
    """The object's generation that this is about."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ]
    """Accepted, ResolvedRefs, Programmed, Ready, and what is there only while True."""
    hosts: Annotated[str, StringConstraints(max_length=8192)]
    """For the printer column: the hosts, `*` for any."""
    persistence: Annotated[str, StringConstraints(max_length=256)]
    """For the printer column: the persistence type."""
    fleet: Fleet | None = None
    """The proxies that serve the route."""
    endpoints_ready: Annotated[str, StringConstraints(max_length=32)] = "0/0"
    """Endpoints that take new sessions, of all."""
    sessions: Sessions | None = None
    """Counts of sessions."""
    endpoints: Annotated[tuple[EndpointStatus, ...], Field(max_length=MAX_ENDPOINTS)] = ()
    """The pods, at most 100."""
    endpoints_omitted: int = 0
    """How many endpoints the cap left out."""
    last_moves: Annotated[tuple[Move, ...], Field(max_length=MAX_MOVES)] = ()
    """The newest few, newest first."""
