"""Which pods take new sessions: `loadBalancing` and `healthCheck`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from stickyroute_api.check import Check, Model
from stickyroute_api.duration import parse_duration
from stickyroute_api.fields import CHECK_PATH, DURATION, Duration, HttpToken, PositiveDuration, matches


class HashOn(Model):
    """What algorithm Hash hashes."""

    checks: ClassVar = (
        Check(
            name="hash-name-required",
            cel="self.type == 'SourceIP' || has(self.name)",
            holds=lambda hash_on: hash_on.type == "SourceIP" or hash_on.name is not None,
            message="name is required with type Header, QueryParam and Cookie: say which one",
            field="name",
            reason="FieldValueRequired",
        ),
        Check(
            name="hash-name-unused",
            cel="self.type != 'SourceIP' || !has(self.name)",
            holds=lambda hash_on: hash_on.type != "SourceIP" or hash_on.name is None,
            message="name means nothing with type SourceIP: remove it or choose another type",
            field="name",
            reason="FieldValueForbidden",
        ),
    )

    type: Literal["SourceIP", "Header", "QueryParam", "Cookie"]
    """Where the hashed value is taken from."""
    name: HttpToken | None = None
    """The header, query parameter or cookie."""


class LoadBalancing(Model):
    """Which pod of a backend takes a new session."""

    checks: ClassVar = (
        Check(
            name="hash-needs-hash-on",
            cel="self.algorithm != 'Hash' || has(self.hashOn)",
            holds=lambda balancing: balancing.algorithm != "Hash" or balancing.hash_on is not None,
            message="hashOn is required with algorithm Hash: say what to hash, such as type SourceIP",
            field="hashOn",
            reason="FieldValueRequired",
        ),
        Check(
            name="hash-on-needs-hash",
            cel="self.algorithm == 'Hash' || !has(self.hashOn)",
            holds=lambda balancing: balancing.algorithm == "Hash" or balancing.hash_on is None,
            message="hashOn is for algorithm Hash only: set that algorithm or remove hashOn",
            field="hashOn",
            reason="FieldValueForbidden",
        ),
        Check(
            name="choices-unused",
            cel="self.choices == 2 || self.algorithm in ['LeastRequests', 'LeastSessions']",
            holds=lambda balancing: (
                balancing.choices == 2 or balancing.algorithm in {"LeastRequests", "LeastSessions"}
            ),
            message="choices is for algorithm LeastRequests and LeastSessions only:"
            " set such an algorithm or remove choices",
            field="choices",
            reason="FieldValueForbidden",
        ),
    )

    algorithm: Literal["RoundRobin", "LeastRequests", "LeastSessions", "Random", "Hash"] = "RoundRobin"
    """RoundRobin: each in turn. LeastRequests, LeastSessions: the one with the fewest now.
    Hash: by hashOn."""
    hash_on: HashOn | None = None
    """What algorithm Hash hashes."""
    choices: Annotated[int, Field(ge=0, le=16)] = 2
    """LeastRequests, LeastSessions: the best of so many pods taken at random. 0: the best of all."""
    slow_start: Duration = "0s"
    """How long a new pod takes fewer new sessions. 0s: not at all."""
    zone: Literal["Any", "Prefer"] = "Any"
    """Prefer: pods of the proxy's own zone first, while it has any that take new sessions."""


class ActiveCheck(Model):
    """Requests of our own that ask a pod for its health."""

    checks: ClassVar = (
        Check(
            name="check-timeout-within-interval",
            cel=f"!{matches('self.timeout', DURATION)} || !{matches('self.interval', DURATION)}"
            " || duration(self.timeout) <= duration(self.interval)",
            holds=lambda check: parse_duration(check.timeout) <= parse_duration(check.interval),
            message="timeout must not be longer than interval: shorten it or lengthen interval",
            field="timeout",
        ),
    )

    path: Annotated[str, StringConstraints(pattern=CHECK_PATH, min_length=1, max_length=1024)] = "/"
    """What is asked for; any status from 200 to 399 is healthy."""
    interval: PositiveDuration = "5s"
    """The time between two checks of a pod."""
    timeout: PositiveDuration = "1s"
    """How long an answer may take."""
    healthy: Annotated[int, Field(ge=1, le=100)] = 2
    """Good answers in a row until an unhealthy pod is healthy."""
    unhealthy: Annotated[int, Field(ge=1, le=100)] = 3
    """Bad answers in a row until a healthy pod is unhealthy."""


class PassiveCheck(Model):
    """What clients' own requests tell of a pod's health."""

    consecutive_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """Failures in a row until a pod takes no new sessions for a while."""
    eject_for: PositiveDuration = "30s"
    """How long that is."""
    max_ejected_percent: Annotated[int, Field(ge=0, le=100)] = 50
    """The largest share of a backend's pods that may be out at once."""


class HealthCheck(Model):
    """How pods are found unhealthy, beyond their readiness in Kubernetes."""

    active: ActiveCheck | None = None
    """Requests of our own."""
    passive: PassiveCheck | None = None
    """What clients' requests tell."""
    panic_percent: Annotated[int, Field(ge=0, le=100)] = 50
    """When fewer of a backend's pods than that are healthy, the checks are not believed. 0: never."""
