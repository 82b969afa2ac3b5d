"""The snapshot: a fleet's whole configuration, and the delta between two of them.

Operator and proxies speak this over the control port. A snapshot's number is (epoch, revision): the epoch
grows with each operator leadership, the revision with each change. Endpoints stand apart from routes, so that
pod churn costs a small delta. Both sides validate: the operator when it builds, the proxy when it receives.

Durations are seconds, times are Unix seconds.
"""

from typing import Annotated, Final, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from stickyroute_api.reasons import EndpointState

FORMAT: Final = 1
"""The version of this format. A proxy refuses any other."""

T = TypeVar("T")
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Version(NamedTuple):
    """A snapshot's number; ordered, newest last."""

    epoch: int
    revision: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.revision}"


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeaderMatch(_Wire):
    """A header or query parameter that a request must carry."""

    name: str
    value: str
    regex: bool = False


class Match(_Wire):
    """One way in which a request fits a rule; all given parts must hold."""

    path_type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    path: str = "/"
    method: str = ""
    """Empty: any."""
    headers: tuple[HeaderMatch, ...] = ()
    query_params: tuple[HeaderMatch, ...] = ()


class Backend(_Wire):
    """A weighted Service of a rule."""

    service: str
    """The Service's name, for people."""
    endpoints: str
    """The key into `Snapshot.endpoints`: `namespace/service:port`."""
    weight: int = Field(ge=0, default=1)


class Cookie(_Wire):
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


class Persistence(_Wire):
    """The resolved policy of a scope."""

    type: Literal["Cookie", "None"] = "None"
    cookie: Cookie | None = None
    idle_timeout: Seconds | None = None
    absolute_timeout: Seconds | None = None
    epoch: int = Field(ge=0, default=0)
    failover: Literal["Repin"] = "Repin"
    notify_header: str = "X-Session-Lost"


class Timeouts(_Wire):
    """How long one exchange may take."""

    connect: Seconds = 2.0
    request: Seconds = 60.0
    """From the request's head to the answer's end; 0 = none. Tunnels are not bound by it."""
    idle: Seconds = 300.0
    """A tunnel without a byte either way."""


class Retries(_Wire):
    attempts: int = Field(ge=0, default=1)
    on: tuple[Literal["connect-failure"], ...] = ("connect-failure",)


class Rule(_Wire):
    name: str
    matches: tuple[Match, ...]
    backends: tuple[Backend, ...]
    """Empty or without endpoints: the rule answers 503."""
    scope: str
    """What shares sessions within the route; its identity is `namespace/route/scope`."""
    algorithm: Literal["RoundRobin", "LeastRequests"] = "RoundRobin"
    persistence: Persistence
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()


class Route(_Wire):
    namespace: str
    name: str
    created: Seconds
    """Age decides between equal matches: the older wins, then the name."""
    hosts: tuple[str, ...] = ()
    """Lower case, `*.` for one or more leading labels; empty = any host."""
    rules: tuple[Rule, ...]

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Endpoint(_Wire):
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
    drain_until: Seconds = 0.0
    """Draining: bound sessions keep it until then; 0 = they have left already."""


class TokenKeys(_Wire):
    """The keys that seal and open tokens: 32 bytes each, base64."""

    sealing: int = Field(ge=0, le=255)
    keys: dict[int, str] = Field(repr=False)


class Settings(_Wire):
    """What belongs to the fleet, not to a route."""

    trusted_proxies: tuple[str, ...] = ()
    """CIDRs whose `X-Forwarded-*` are believed."""


class Snapshot(_Wire):
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
    """By `namespace/service:port`."""

    @property
    def version(self) -> Version:
        return Version(self.epoch, self.revision)


class Delta(_Wire):
    """What changes a base snapshot into the next; `None` deletes, absence keeps."""

    format: Literal[1] = FORMAT
    fleet: str
    base_epoch: int = Field(ge=0)
    base_revision: int = Field(ge=0)
    epoch: int = Field(ge=0)
    revision: int = Field(ge=0)
    settings: Settings | None = None
    keys: TokenKeys | None = None
    routes: dict[str, Route | None] = {}
    endpoints: dict[str, tuple[Endpoint, ...] | None] = {}

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
                "routes": _merged(base.routes, self.routes) if self.routes else base.routes,
                "endpoints": _merged(base.endpoints, self.endpoints) if self.endpoints else base.endpoints,
            }
        )


def _changes(base: dict[str, T], new: dict[str, T]) -> dict[str, T | None]:
    changed: dict[str, T | None] = {
        key: value for key, value in new.items() if (old := base.get(key)) is not value and old != value
    }
    changed.update(dict.fromkeys(base.keys() - new.keys()))
    return changed


def _merged(base: dict[str, T], changes: dict[str, T | None]) -> dict[str, T]:
    merged = dict(base)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
