"""Where a rule's requests go and within what bounds: backends, timeouts, retries, limits."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stickyroute_api.check import Check, Model
from stickyroute_api.fields import DOMAIN, Duration, Label, ObjectName, Port, PositiveDuration, Size


class CaRef(Model):
    """An object of the route's own namespace whose `ca.crt` holds certificate authorities."""

    kind: Literal["ConfigMap", "Secret"]
    """ConfigMap, or Secret of type kubernetes.io/tls."""
    name: ObjectName
    """Its name."""


class BackendTls(Model):
    """How the pods' certificates are checked."""

    server_name: Annotated[str, StringConstraints(pattern=DOMAIN, min_length=1, max_length=253)] | None = None
    """The name to ask for and to find in the certificate. None given: service.namespace.svc."""
    ca_ref: CaRef | None = None
    """Who may have signed the certificate. None given: the public authorities."""


class BackendRef(Model):
    """A weighted Service of the route's own namespace."""

    service: Label
    """The Service's name."""
    port: Port
    """The number or the name of one of the Service's ports."""
    tls: BackendTls | None = None
    """How the pods' certificates are checked, where the Service's port has appProtocol https."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """The share of new sessions, relative to the other backends. 0: none; bound sessions stay."""


BACKENDS_DIFFER = Check(
    name="backend-listed-once",
    cel="self.all(b, self.exists_one(o, o.service == b.service && o.port == b.port))",
    holds=lambda backends: len({(b.service, b.port) for b in backends}) == len(backends),
    message="backends must not list the same service and port twice: keep one, with the sum of the weights",
)

Backends = Annotated[tuple[BackendRef, ...], Field(min_length=1, max_length=16), BACKENDS_DIFFER]


class Timeouts(Model):
    """How long one exchange may take."""

    request: Duration = "60s"
    """From the request's head to the answer's end. 0s: no limit. Tunnels are not bound by it."""
    connect: PositiveDuration = "2s"
    """Until a pod has accepted a connection, TLS included."""
    first_byte: Duration = "0s"
    """From the request's end to the first byte of the answer. 0s: no limit but `request`."""
    body_idle: Duration = "30s"
    """Between two parts of the request's body. 0s: no limit but `request`."""
    idle: PositiveDuration = "300s"
    """How long a tunnel (WebSocket) may stay without a byte either way."""


class Retries(Model):
    """What is tried again, on another pod where the session allows it."""

    attempts: Annotated[int, Field(ge=0, le=5)] = 3
    """How often, beside the first time: once more on the session's own pod, then on others. 0: never."""
    on: Annotated[tuple[Literal["connect-failure"], ...], Field(max_length=1, alias="retryOn")] = (
        "connect-failure",
    )
    """After what. connect-failure: the pod did not accept the connection, so the request was not sent."""


class RuleLimits(Model):
    """How much one request may bring, and how many there may be; each proxy process counts for itself.

    What a pod takes over the whole fleet is said under persistence.limits.
    """

    body_size: Size | None = None
    """The largest request body, such as 10Mi. 0: any. None given: the fleet's."""
    requests_per_endpoint: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests in flight on one pod; those beyond wait. 0: no limit."""
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """How many may wait for one pod."""
    queue_timeout: PositiveDuration = "5s"
    """How long they may wait."""
