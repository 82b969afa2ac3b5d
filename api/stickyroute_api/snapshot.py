"""The snapshot: a fleet's whole configuration, and the delta between two of them.

Operator and proxies speak this over the control port. A snapshot's number is (epoch, revision): the epoch
grows with each operator leadership, the revision with each change. Endpoints stand apart from routes, so that
pod churn costs a small delta. Both sides validate: the operator when it builds, the proxy when it receives.

Durations are seconds, times are Unix seconds.
"""

from typing import Final, Literal, NamedTuple, Self, TypeVar

from pydantic import Field

from stickyroute_api.changes import Changes
from stickyroute_api.part import Part, Seconds
from stickyroute_api.reasons import EndpointState
from stickyroute_api.settings import Settings

FORMAT: Final = 1
"""The version of this format. A proxy refuses any other."""

T = TypeVar("T")


class Version(NamedTuple):
    """A snapshot's number; ordered, newest last."""

    epoch: int
    revision: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.revision}"


class HeaderMatch(Part):
    """A header or query parameter that a request must carry."""

    name: str
    value: str
    regex: bool = False


class Match(Part):
    """One way in which a request fits a rule; all given parts must hold."""

    path_type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    path: str = "/"
    method: str = ""
    """Empty: any."""
    headers: tuple[HeaderMatch, ...] = ()
    query_params: tuple[HeaderMatch, ...] = ()


class Backend(Part):
    """A weighted Service of a rule."""

    service: str
    """The Service's name, for people."""
    endpoints: str
    """The key into `Snapshot.endpoints`: `namespace/service:port`."""
    weight: int = Field(ge=0, default=1)


class Cookie(Part):
    """Attributes of the cookie that carries the token (RFC 6265bis)."""

    name: str
    path: str = "/"
    domain: str = ""
    same_site: Literal["Strict", "Lax", "None"] = "Lax"
    secure: Literal["Auto", "Always", "Never"] = "Auto"
    http_only: bool = True
    partitioned: bool = False
    permanent: bool = False
    """True: `Max-Age` is set from the absolute timer. False: a browser-session cookie."""


class Failover(Part):
    """What a client gets when its session's pod is gone."""

    mode: Literal["Repin", "Temporary", "Reject", "Redirect"] = "Repin"
    hold: Seconds = 0.0
    """How long a request waits first for its pod to come back."""
    status: int = Field(ge=400, le=599, default=503)
    """Of mode Reject."""
    redirect_url: str = ""
    """Of mode Redirect: an absolute URL, or a path."""
    notify_header: str = "X-Session-Lost"
    """The request header that tells the application why."""


class SessionLimits(Part):
    """What one pod takes of a scope, counted over the whole fleet; 0 = no limit."""

    sessions: int = Field(ge=0, default=0)
    requests: int = Field(ge=0, default=0)
    """In flight."""
    overflow: Literal["OtherPod", "Queue", "Reject"] = "OtherPod"
    """A new session whose pod is at its limit: another pod; waits; 503."""


class Rebalance(Part):
    """The moving of idle sessions to pods that have few."""

    sessions_per_minute: int = Field(ge=0, default=0)
    """Over the whole fleet; 0 = none is moved."""
    idle_for: Seconds = 60.0
    """Only sessions without a request for so long."""


class Persistence(Part):
    """The resolved policy of a scope."""

    type: Literal["Cookie", "AppCookie", "Header", "QueryParam", "SourceIP", "None"] = "None"
    name: str = ""
    """The header, query parameter or application's cookie; our own cookie's name is in `cookie`."""
    cookie: Cookie | None = None
    """With type Cookie."""
    learn: Literal["Envelope", "Store"] | None = None
    """With AppCookie always, with Header where the application gives out the value."""
    bind_to: Literal["Pod", "StatefulPod", "Cohort"] = "Pod"
    """What a binding names: `Endpoint.id`, `Endpoint.stable` or `Endpoint.cohort`."""
    idle_timeout: Seconds | None = None
    absolute_timeout: Seconds | None = None
    epoch: int = Field(ge=0, default=0)
    failover: Failover = Failover()
    drain_timeout: Seconds = 0.0
    """How long after `Endpoint.draining_since` bound sessions may stay; 0 = they leave at once."""
    limits: SessionLimits = SessionLimits()
    rebalance: Rebalance = Rebalance()

    @property
    def ours(self) -> str:
        """What clients get from the proxy alone, `cookie NAME` or `header NAME`; empty: nothing."""
        if self.cookie is not None:
            return f"cookie {self.cookie.name}"
        return f"header {self.name}" if self.type == "Header" and self.learn is None else ""


class Timeouts(Part):
    """How long the parts of one exchange may take; 0 = no limit."""

    connect: Seconds = 2.0
    """Until an endpoint has accepted a connection, TLS included."""
    first_byte: Seconds = 0.0
    """From the request's end to the first byte of the answer's head: 504."""
    body_idle: Seconds = 30.0
    """Between two parts of the request's body: 408."""
    request: Seconds = 60.0
    """From the request's head to the answer's end: 408 or 504. Tunnels are not bound by it."""
    idle: Seconds = 300.0
    """A tunnel without a byte either way."""


class Limits(Part):
    """What one rule takes; each worker process counts for itself."""

    body_bytes: int | None = Field(ge=0, default=None)
    """A request's body: 413. 0 = no limit, None = the fleet's."""
    requests_per_endpoint: int = Field(ge=0, default=0)
    """Requests in flight on one endpoint; 0 = no limit. Those beyond wait in a queue."""
    queue: int = Field(ge=0, default=100)
    """Requests that may wait for one endpoint: 503 with Retry-After beyond."""
    queue_timeout: Seconds = 5.0
    """How long they may wait: 503 with Retry-After then."""


class HashOn(Part):
    """The value that algorithm Hash places by; a request without it is placed at random."""

    type: Literal["SourceIP", "Header", "QueryParam", "Cookie"]
    name: str = ""


class Balancing(Part):
    """How a rule's new sessions are placed."""

    algorithm: Literal["RoundRobin", "LeastRequests", "LeastSessions", "Random", "Hash"] = "RoundRobin"
    choices: int = Field(ge=0, le=16, default=2)
    """LeastRequests and LeastSessions: the best of so many taken at random; 0 = of all."""
    hash_on: HashOn | None = None
    slow_start: Seconds = 0.0
    """How long an endpoint that has just begun to serve takes fewer new sessions."""
    prefer_zone: bool = False
    """Endpoints of the proxy's own zone first, while it has any that take new sessions."""


class ActiveCheck(Part):
    """Requests of the proxy's own that ask a pod for its health."""

    path: str = "/"
    interval: Seconds = 5.0
    timeout: Seconds = 1.0
    healthy: int = Field(ge=1, default=2)
    """Good answers in a row until an unhealthy pod is healthy."""
    unhealthy: int = Field(ge=1, default=3)
    """Bad answers in a row until a healthy pod is unhealthy."""


class PassiveCheck(Part):
    """What clients' own requests tell of a pod's health."""

    consecutive_failures: int = Field(ge=1, default=5)
    eject_for: Seconds = 30.0
    max_ejected_percent: int = Field(ge=0, le=100, default=50)


class HealthCheck(Part):
    """How the endpoints of a set are found unhealthy, beyond their readiness in Kubernetes."""

    active: ActiveCheck | None = None
    passive: PassiveCheck | None = None
    panic_percent: int = Field(ge=0, le=100, default=50)
    """When fewer of a backend's pods than that are healthy, the checks are not believed; 0 = never."""


class Override(Part):
    """What is ordered for one pod of a route."""

    pod: str
    """The pod's name."""
    action: Literal["Drain", "Disable", "Release"]
    """Drain: no new sessions. Disable: none at all. Release: bindings made before `since` end."""
    since: Seconds = 0.0


class Retries(Part):
    attempts: int = Field(ge=0, default=3)
    """Beside the first."""
    on: tuple[Literal["connect-failure"], ...] = ("connect-failure",)


class Rule(Part):
    name: str
    matches: tuple[Match, ...]
    backends: tuple[Backend, ...]
    """Empty or without endpoints: the rule answers 503."""
    scope: str
    """What shares sessions within the route; its identity is `namespace/route/scope`."""
    balancing: Balancing = Balancing()
    persistence: Persistence
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    limits: Limits = Limits()
    changes: Changes = Changes()


class RouteTls(Part):
    """How a route's hosts are served over TLS."""

    certificate: str
    """The key into `Snapshot.certificates`: `namespace/name`. There is none of it: HTTPS is refused."""
    redirect: bool = True
    """Plain HTTP is redirected to HTTPS, but for `/.well-known/acme-challenge/`."""


class Route(Part):
    namespace: str
    name: str
    created: Seconds
    """Age decides between equal matches: the older wins, then the name."""
    hosts: tuple[str, ...] = ()
    """Lower case, `*.` for one or more leading labels; empty = any host."""
    tls: RouteTls | None = None
    rules: tuple[Rule, ...]
    overrides: tuple[Override, ...] = ()
    """At most one of a pod."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Endpoint(Part):
    """One pod behind a Service port."""

    id: str
    """The identity that a binding names: the pod's UID, or `address:port` where no pod is known."""
    pod: str
    """The pod's name, for people."""
    address: str
    port: int = Field(ge=1, le=65535)
    node: str = ""
    zone: str = ""
    state: EndpointState = EndpointState.SERVING
    serving: bool = True
    """Whether it can still answer: what decides for Draining endpoints, and in the last resort."""
    draining_since: Seconds = 0.0
    """Draining: when it was first seen to terminate; how long bound sessions stay is each scope's policy."""
    stable: str = ""
    """`namespace/name` of a StatefulSet's pod, which a successor takes over; empty for other pods."""
    cohort: str = ""
    """What pods of one version share: namespace, owner and template hash; empty where it is not known."""
    started: Seconds = 0.0
    """When the youngest of its containers began to run; 0 = not known. Later for one pod: memory is lost."""


class Certificate(Part):
    """A server certificate."""

    chain: str
    """PEM, the server's own first."""
    key: str = Field(repr=False)
    """PEM."""


class BackendTls(Part):
    """How the endpoints of one set are spoken to over TLS."""

    server_name: str
    """Sent as SNI, and what the certificate must name."""
    ca: str = ""
    """PEM; empty = the system's."""


class TokenKeys(Part):
    """The keys that seal and open tokens: 32 bytes each, base64."""

    sealing: int = Field(ge=0, le=255)
    keys: dict[int, str] = Field(repr=False)
    hashing: str = Field(repr=False, default="")
    """Keys the consistent hash of algorithm Hash; base64, never rotated: it would move every session."""


class Snapshot(Part):
    """Everything a proxy needs to serve."""

    format: Literal[1] = FORMAT
    fleet: str
    epoch: int = Field(ge=0)
    revision: int = Field(ge=0)
    settings: Settings = Settings()
    keys: TokenKeys
    routes: dict[str, Route]
    """By `namespace/name`."""
    endpoints: dict[str, tuple[Endpoint, ...]]
    """By `namespace/service:port`; where they are spoken to over TLS, `+` and a digest of how follow, and
    where their health is checked, `~` and a digest of how: so no route's checks touch another route."""
    certificates: dict[str, Certificate] = Field(default_factory=dict)
    """By `namespace/name` of their Secrets."""
    backend_tls: dict[str, BackendTls] = Field(default_factory=dict)
    """By the key of the set; sets that are not named are spoken to in the clear."""
    health: dict[str, HealthCheck] = Field(default_factory=dict)
    """By the key of the set; sets that are not named are not checked."""

    @property
    def version(self) -> Version:
        return Version(self.epoch, self.revision)


class Delta(Part):
    """What changes a base snapshot into the next; `None` deletes, absence keeps."""

    format: Literal[1] = FORMAT
    fleet: str
    base_epoch: int = Field(ge=0)
    base_revision: int = Field(ge=0)
    epoch: int = Field(ge=0)
    revision: int = Field(ge=0)
    settings: Settings | None = None
    keys: TokenKeys | None = None
    routes: dict[str, Route | None] = Field(default_factory=dict)
    endpoints: dict[str, tuple[Endpoint, ...] | None] = Field(default_factory=dict)
    certificates: dict[str, Certificate | None] = Field(default_factory=dict)
    backend_tls: dict[str, BackendTls | None] = Field(default_factory=dict)
    health: dict[str, HealthCheck | None] = Field(default_factory=dict)

    @property
    def base(self) -> Version:
        return Version(self.base_epoch, self.base_revision)

    @classmethod
    def between(cls, base: Snapshot, new: Snapshot) -> Self:
        """The delta that turns `base` into `new`."""
        return cls(
            fleet=new.fleet,
            base_epoch=base.epoch,
            base_revision=base.revision,
            epoch=new.epoch,
            revision=new.revision,
            settings=None if new.settings == base.settings else new.settings,
            keys=None if new.keys == base.keys else new.keys,
            routes=_changes(base.routes, new.routes),
            endpoints=_changes(base.endpoints, new.endpoints),
            certificates=_changes(base.certificates, new.certificates),
            backend_tls=_changes(base.backend_tls, new.backend_tls),
            health=_changes(base.health, new.health),
        )

    def apply(self, base: Snapshot) -> Snapshot:
        """The snapshot that follows `base`, sharing all that did not change.

        Raises ValueError when `base` is not the delta's base.
        """
        if (base.fleet, base.version) != (self.fleet, self.base):
            raise ValueError(f"delta is for {self.fleet} {self.base}, not for {base.fleet} {base.version}")
        return base.model_copy(
            update={
                "epoch": self.epoch,
                "revision": self.revision,
                "settings": self.settings or base.settings,
                "keys": self.keys or base.keys,
                "routes": _merged(base.routes, self.routes),
                "endpoints": _merged(base.endpoints, self.endpoints),
                "certificates": _merged(base.certificates, self.certificates),
                "backend_tls": _merged(base.backend_tls, self.backend_tls),
                "health": _merged(base.health, self.health),
            }
        )


def _changes(base: dict[str, T], new: dict[str, T]) -> dict[str, T | None]:
    changed: dict[str, T | None] = {
        key: value for key, value in new.items() if (old := base.get(key)) is not value and old != value
    }
    changed.update(dict.fromkeys(base.keys() - new.keys()))
    return changed


def _merged(base: dict[str, T], changes: dict[str, T | None]) -> dict[str, T]:
    if not changes:
        return base
    merged = dict(base)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
