"""One pod behind a Service port, with the state that outlives snapshots."""

from hashlib import blake2b
from math import inf
from typing import Any, Final

from stickyroute_api import snapshot
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_proxy.certificates import EndpointTls

KEY_BYTES: Final = 12
"""The length of an endpoint's key, by which tokens name it."""

_LOSSES: Final = {
    EndpointState.DRAINING: BindingReason.POD_TERMINATED,
    EndpointState.NOT_READY: BindingReason.POD_NOT_READY,
}


class Endpoint:
    """An endpoint of one set (`namespace/service:port`); the same object while it is the same pod."""

    __slots__ = (
        "address",
        "drain_until",
        "id",
        "in_flight",
        "keep_until",
        "key",
        "loss",
        "pod",
        "pool",
        "port",
        "service",
        "serving",
        "state",
        "tls",
    )

    id: str
    key: bytes
    """A digest of `id`: what a token says instead of it."""
    pod: str
    service: str
    """The Service's name, for people."""
    address: str
    port: int
    state: EndpointState
    serving: bool
    drain_until: float
    keep_until: float
    """Bound sessions may reach it until then (Unix seconds)."""
    loss: BindingReason
    """Why bound sessions leave once `keep_until` has passed."""
    in_flight: int
    """Exchanges under way; the data path adds and subtracts."""
    pool: Any
    """The data path's idle connections to it."""
    tls: EndpointTls | None
    """How it is spoken to; None: in the clear."""

    def __init__(self, given: snapshot.Endpoint, service: str, tls: EndpointTls | None = None) -> None:
        self.id = given.id
        self.key = endpoint_key(given.id)
        self.service = service
        self.address = given.address
        self.port = given.port
        self.in_flight = 0
        self.pool = None
        self.tls = tls
        self.update(given)

    def update(self, given: snapshot.Endpoint) -> None:
        """Take what a newer snapshot says of the same endpoint."""
        self.pod = given.pod
        self.state = given.state
        self.serving = given.serving
        self.drain_until = given.drain_until
        self.keep_until = _keep_until(given)
        self.loss = _LOSSES.get(given.state, BindingReason.POD_TERMINATED)

    def __repr__(self) -> str:
        return f"<Endpoint {self.pod} {self.address}:{self.port} {self.state}>"


def endpoint_key(identity: str) -> bytes:
    """The digest by which a token names the endpoint of this identity."""
    return blake2b(identity.encode(), digest_size=KEY_BYTES).digest()


def _keep_until(given: snapshot.Endpoint) -> float:
    if given.state in (EndpointState.SERVING, EndpointState.JOINING):
        return inf
    if given.state is EndpointState.DRAINING and given.serving:
        return given.drain_until
    return 0.0
