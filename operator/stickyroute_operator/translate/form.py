"""The internal form that every front end makes and everything after it reads."""

from collections.abc import Iterator
from dataclasses import dataclass

from stickyroute_api.changes import Changes
from stickyroute_api.reasons import ConditionReason
from stickyroute_api.snapshot import (
    Balancing,
    HealthCheck,
    Limits,
    Match,
    Override,
    Persistence,
    Retries,
    Timeouts,
)
from stickyroute_operator.objects import Key, Reference, RouteObject


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing of a route is served."""

    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class TlsUse:
    """A server certificate as a route names it."""

    certificate: Reference
    redirect: bool


@dataclass(frozen=True, slots=True)
class BackendTlsUse:
    """How a backend's certificates are checked, as a rule says it."""

    server_name: str = ""
    """Empty: by the Service's name."""
    ca: Reference | None = None
    """None: the public authorities."""


@dataclass(frozen=True, slots=True)
class BackendUse:
    """A backend as a rule names it."""

    field: str
    """Its path in the object, for messages."""
    service: str
    port: int | str
    weight: int
    tls: BackendTlsUse | None = None
    health: HealthCheck | None = None


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
    limits: Limits
    changes: Changes
    deletion_cost: bool = False
    """Whether its pods' deletion cost follows their sessions."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """One route, validated and with its defaults resolved; or refused."""

    source: RouteObject
    class_name: str
    hosts: tuple[str, ...]
    persistence: str
    """The route's persistence type, for people."""
    rules: tuple[RuleForm, ...] = ()
    tls: TlsUse | None = None
    overrides: tuple[Override, ...] = ()
    refusal: Refusal | None = None

    @property
    def key(self) -> Key:
        return self.source.key

    @property
    def age(self) -> tuple[float, str, str]:
        """The older first; equally old ones by name."""
        return self.source.created, self.source.namespace, self.source.name

    def references(self) -> Iterator[Reference]:
        """The Secrets and ConfigMaps that it names."""
        if self.tls is not None:
            yield self.tls.certificate
        for rule in self.rules:
            for use in rule.backends:
                if use.tls is not None and use.tls.ca is not None:
                    yield use.tls.ca
