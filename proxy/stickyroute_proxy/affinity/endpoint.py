"""One pod behind a Service port, with the state that outlives snapshots."""

from hashlib import blake2b
from math import inf
from typing import Any, Final

from stickyroute_api import snapshot
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_proxy.certificates import EndpointTls

KEY_BYTES: Final = 12
"""The length of an endpoint's key, by which tokens name it."""

KEEPS: Final = frozenset({EndpointState.SERVING, EndpointState.JOINING})
"""The states in which bound sessions stay and new ones come."""
_LOSSES: Final = {
    EndpointState.DRAINING: BindingReason.POD_TERMINATED,
    EndpointState.NOT_READY: BindingReason.POD_NOT_READY,
}


class Endpoint:
    """An endpoint of one set (`namespace/service:port`); the same object while it is the same pod."""

    __slots__ = (
        "address",
        "cohort",
        "draining_since",
        "ejected_until",
        "id",
        "in_flight",
        "judge",
        "keep_until",
        "key",
        "loss",
        "pod",
        "pool",
        "port",
        "queue",
        "seed",
        "service",
        "serving",
        "set_id",
        "since",
        "stable",
        "started",
        "state",
        "tls",
        "unhealthy",
        "zone",
    )

    id: str
    key: bytes
    """A digest of `id`: what a token says instead of it."""
    stable: bytes
    """A digest of the name that a successor takes over; `key` where there is none."""
    cohort: bytes
    """A digest of what it shares with all of its version; `key` where that is not known."""
    seed: int
    """An odd number of 64 bits made of `key`, for consistent hashing."""
    pod: str
    service: str
    """The Service's name, for people."""
    set_id: str
    """The snapshot's key of the set that it is in."""
    address: str
    port: int
    zone: str
    state: EndpointState
    since: float
    """When it was seen to begin to serve (Unix seconds); -inf: before this proxy began, or never."""
    serving: bool
    draining_since: float
    """When it began to terminate (Unix seconds)."""
    started: float
    """When the youngest of its containers began to run (Unix seconds); 0: not known."""
    unhealthy: bool
    """It fails the active check; who sets it calls `Table.touch`."""
    ejected_until: float
    """It failed clients: no new sessions until then (Unix seconds); who sets it calls `Table.touch`."""
    judge: Any
    """What clients' requests to it are told to (passive check); None: nothing."""
    keep_until: float
    """Bound sessions of every scope may reach it until then (Unix seconds)."""
    loss: BindingReason
    """Why bound sessions leave."""
    in_flight: int
    """Exchanges under way; the data path adds and subtracts."""
    pool: Any
    """The data path's idle connections to it."""
    queue: Any
    """The data path's exchanges that wait for room on it; None: none ever did."""
    tls: EndpointTls | None
    """How it is spoken to; None: in the clear."""

    def __init__(
        self, given: snapshot.Endpoint, service: str, tls: EndpointTls | None = None, now: float = -inf
    ) -> None:
        """`now`: -inf in a proxy's first snapshot."""
        self.id = given.id
        self.key = endpoint_key(given.id)
        self.seed = seed(self.key)
        self.service = service
        self.set_id = ""
        self.address = given.address
        self.port = given.port
        self.in_flight = 0
        self.pool = self.queue = None
        self.tls = tls
        self.state = EndpointState.NOT_READY
        self.since = -inf
        self.unhealthy = False
        self.ejected_until = 0.0
        self.judge = None
        self.update(given, now)

    def update(self, given: snapshot.Endpoint, now: float) -> None:
        """Take what a newer snapshot says of the same endpoint."""
        if given.state is EndpointState.SERVING and self.state is not EndpointState.SERVING:
            self.since = now
        self.pod = given.pod
        self.zone = given.zone
        self.state = given.state
        self.serving = given.serving
        self.draining_since = given.draining_since
        self.stable = endpoint_key(given.stable) if given.stable else self.key
        self.cohort = endpoint_key(given.cohort) if given.cohort else self.key
        self.started = given.started
        self.settle()

    def settle(self) -> None:
        """Follow its state and its health: what bound sessions may do."""
        keeps = self.state in KEEPS
        self.keep_until = inf if keeps and not self.unhealthy else 0.0
        self.loss = _LOSSES.get(self.state, BindingReason.POD_UNHEALTHY)

    def kept_until(self, drain: float) -> float:
        """Until when bound sessions of a scope that drains for so many seconds may reach it."""
        if self.state is EndpointState.DRAINING and self.serving and not self.unhealthy:
            return self.draining_since + drain
        return self.keep_until

    def takes(self, now: float) -> bool:
        """Whether it takes new sessions, as far as itself goes; its route may have ordered otherwise."""
        return self.state in KEEPS and not self.unhealthy and now >= self.ejected_until

    def found(self, now: float) -> EndpointState | None:
        """What health checks find amiss."""
        if self.unhealthy:
            return EndpointState.UNHEALTHY
        return EndpointState.EJECTED if now < self.ejected_until else None

    @property
    def names(self) -> frozenset[bytes]:
        """All that bindings may name it by."""
        return frozenset((self.key, self.stable, self.cohort))

    @property
    def authority(self) -> str:
        """Address and port as a URL has them (RFC 3986, section 3.2)."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Endpoint {self.pod} {self.address}:{self.port} {self.state}>"


def endpoint_key(identity: str) -> bytes:
    """The digest by which a token names the endpoint of this identity."""
    return blake2b(identity.encode(), digest_size=KEY_BYTES).digest()


def seed(digest: bytes) -> int:
    """What consistent hashing multiplies by: odd, so that every number has a product of its own."""
    return int.from_bytes(digest[:8], "big") | 1
