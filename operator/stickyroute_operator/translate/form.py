"""The internal form that every front end makes and everything after it reads."""

from dataclasses import dataclass

from stickyroute_api.reasons import ConditionReason
from stickyroute_api.snapshot import Balancing, Match, Persistence, Retries, Timeouts
from stickyroute_operator.objects import Key, RouteObject


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing of a route is served."""

    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class BackendUse:
    """A backend as a rule names it."""

    field: str
    """Its path in the object, for messages."""
    service: str
    port: int | str
    weight: int


@dataclass(frozen=True, slots=True)
class RuleForm:
    name: str
    field: str
    matches: tuple[Match, ...]
    backends: tuple[BackendUse, ...]
    scope: str
    balancing: Balancing
    persistence: Persistence
    timeouts: Timeouts
    retries: Retries


@dataclass(frozen=True, slots=True)
class Compiled:
    """One route, validated and with its defaults resolved; or refused."""

    source: RouteObject
    class_name: str
    hosts: tuple[str, ...]
    persistence: str
    """The route's persistence type, for people."""
    rules: tuple[RuleForm, ...] = ()
    refusal: Refusal | None = None

    @property
    def key(self) -> Key:
        return self.source.key

    @property
    def age(self) -> tuple[float, str, str]:
        """The older first; equally old ones by name."""
        return self.source.created, self.source.namespace, self.source.name
