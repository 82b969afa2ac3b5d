"""StickyRoute (`stickyroute.dev/v1alpha1`): the whole spec, its limits and its rules.

The CRD is generated from these models (`crd.py`), so a limit stands once: the API server, `stickyroute serve`
and the operator hold the same. Names follow Gateway API (GEP-1619) wherever it has one.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from stickyroute_api.duration import PATTERN as DURATION_PATTERN
from stickyroute_api.duration import parse_duration

GROUP, VERSION, KIND, PLURAL = "stickyroute.dev", "v1alpha1", "StickyRoute", "stickyroutes"
API_VERSION = f"{GROUP}/{VERSION}"

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
HOST = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
TOKEN = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"  # noqa: S105 - RFC 9110, section 5.6.2


def _duration(text: str) -> str:
    parse_duration(text)
    return text


Duration = Annotated[
    str, StringConstraints(pattern=DURATION_PATTERN, max_length=32), AfterValidator(_duration)
]
Name = Annotated[str, StringConstraints(pattern=DNS_LABEL, min_length=1, max_length=63)]
Host = Annotated[str, StringConstraints(pattern=HOST, min_length=1, max_length=253)]
HttpToken = Annotated[str, StringConstraints(pattern=TOKEN, min_length=1, max_length=128)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class Model(BaseModel):
    """A part of the spec: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class PathMatch(Model):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = "/"


class ValueMatch(Model):
    """A header or a query parameter."""

    name: HttpToken
    type: Literal["Exact", "RegularExpression"] = "Exact"
    value: Value


class RouteMatch(Model):
    path: PathMatch = PathMatch()
    method: Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,20}$")] | None = None
    headers: Annotated[tuple[ValueMatch, ...], Field(max_length=16)] = ()
    query_params: Annotated[tuple[ValueMatch, ...], Field(max_length=16)] = ()


class BackendRef(Model):
    """A Service of the route's own namespace; `port` is a port's name or number."""

    service: Name
    port: int | str
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1


class Timeouts(Model):
    request: Duration = "60s"
    connect: Duration = "2s"
    idle: Duration = "300s"


class Retries(Model):
    attempts: Annotated[int, Field(ge=0, le=5)] = 1
    on: Annotated[tuple[Literal["connect-failure"], ...], Field(max_length=1)] = ("connect-failure",)


class CookieOptions(Model):
    path: Annotated[str, StringConstraints(pattern=r"^/[!-:<-~]*$", max_length=256)] = "/"
    domain: Annotated[str, StringConstraints(max_length=253)] = ""
    same_site: Literal["Strict", "Lax", "None"] = "Lax"
    secure: Literal["Auto", "Always", "Never"] = "Auto"
    http_only: bool = True
    partitioned: bool = False
    lifetime_type: Literal["Session", "Permanent"] = "Session"


class Learn(Model):
    from_: Annotated[Literal["ResponseHeader", "ResponseCookie"], Field(alias="from")]
    mode: Literal["Envelope", "Store"] = "Envelope"


class Failover(Model):
    mode: Literal["Repin", "Temporary", "Reject", "Redirect"] = "Repin"
    hold: Duration = "0s"
    status: Annotated[int, Field(ge=400, le=599)] = 503
    redirect_url: Annotated[str, StringConstraints(max_length=1024), Field(alias="redirectURL")] = ""
    notify_header: HttpToken = "X-Session-Lost"


class Limits(Model):
    max_sessions_per_pod: Annotated[int, Field(ge=0)] = 0
    max_requests_per_pod: Annotated[int, Field(ge=0)] = 0


class Persistence(Model):
    type: Literal["Cookie", "AppCookie", "Header", "QueryParam", "SourceIP", "None"] = "Cookie"
    session_name: HttpToken | None = None
    bind_to: Literal["Pod", "StatefulPod"] = "Pod"
    idle_timeout: Duration | None = None
    absolute_timeout: Duration | None = None
    epoch: Annotated[int, Field(ge=0, le=2_147_483_647)] = 0
    cookie: CookieOptions = CookieOptions()
    learn: Learn | None = None
    failover: Failover = Failover()
    drain_timeout: Duration = "0s"
    limits: Limits = Limits()


class HashOn(Model):
    type: Literal["SourceIP", "Header", "QueryParam", "Cookie"]
    name: HttpToken | None = None


class LoadBalancing(Model):
    algorithm: Literal["RoundRobin", "LeastRequests", "LeastSessions", "Random", "Hash"] = "RoundRobin"
    hash_on: HashOn | None = None
    slow_start: Duration = "0s"


class ActiveCheck(Model):
    path: Annotated[str, StringConstraints(pattern=r"^/", max_length=1024)] = "/"
    interval: Duration = "5s"
    timeout: Duration = "1s"
    healthy: Annotated[int, Field(ge=1, le=100)] = 2
    unhealthy: Annotated[int, Field(ge=1, le=100)] = 3


class PassiveCheck(Model):
    consecutive_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    eject_for: Duration = "30s"
    max_ejected_percent: Annotated[int, Field(ge=0, le=100)] = 50


class HealthCheck(Model):
    active: ActiveCheck | None = None
    passive: PassiveCheck | None = None


class Override(Model):
    pod: Name
    action: Literal["Drain", "Disable", "Release"]
    since: datetime | None = None


class Tls(Model):
    secret_name: Name
    redirect: bool = True


class Rule(Model):
    name: Name
    matches: Annotated[tuple[RouteMatch, ...], Field(min_length=1, max_length=16)] = (RouteMatch(),)
    backends: Annotated[tuple[BackendRef, ...], Field(min_length=1, max_length=16)]
    persistence: Persistence | None = None
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()


class StickyRouteSpec(Model):
    class_name: Name = "stickyroute"
    hosts: Annotated[tuple[Host, ...], Field(max_length=16)] = ()
    tls: Tls | None = None
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=64)]
    load_balancing: LoadBalancing = LoadBalancing()
    persistence: Persistence = Persistence()
    health_check: HealthCheck | None = None
    overrides: Annotated[tuple[Override, ...], Field(max_length=64)] = ()


class ObjectMeta(BaseModel):
    """What we read of a Kubernetes object's metadata."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None


class StickyRoute(BaseModel):
    """One StickyRoute object as the API server holds it."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    metadata: ObjectMeta
    spec: StickyRouteSpec
    status: dict[str, Any] | None = None
