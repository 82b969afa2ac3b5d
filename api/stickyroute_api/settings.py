"""What belongs to the fleet, not to a route: chart values, on their way to the proxies in the snapshot.

Durations are seconds, sizes are bytes; 0 means no limit unless it says otherwise. All limits are each
worker process's own.
"""

from typing import Literal

from pydantic import Field

from stickyroute_api.part import Part, Seconds


class Limits(Part):
    """What a client may ask of a proxy."""

    head_bytes: int = Field(ge=1024, le=1 << 20, default=32 * 1024)
    """A request's head, its first line included: 431."""
    head_fields: int = Field(ge=8, le=1024, default=128)
    """The fields of a head: 431."""
    target_bytes: int = Field(ge=256, le=1 << 20, default=16 * 1024)
    """A request's target: 414."""
    body_bytes: int = Field(ge=0, default=0)
    """A request's body, where the rule says nothing of its own: 413."""
    connections: int = Field(ge=0, default=0)
    """Client connections in all: 503, closed. 0: what the limit of open files leaves room for."""
    connections_per_address: int = Field(ge=0, default=0)
    """Client connections of one address (IPv6: of one /64): 429, closed."""
    requests: int = Field(ge=0, default=0)
    """Requests in flight: 503 with Retry-After."""
    pipelined: int = Field(ge=1, le=1024, default=32)
    """Requests that a client may send ahead of their answers: 429, closed."""


class Timeouts(Part):
    """What holds before it is known which route a request belongs to. All are absolute."""

    handshake: Seconds = 10.0
    """The PROXY header and the TLS handshake."""
    head: Seconds = 15.0
    """A request's head, from its first byte: 408."""
    keep_alive: Seconds = 75.0
    """A connection that waits for its next request."""


class AccessLog(Part):
    """Which requests become lines."""

    mode: Literal["Off", "Sampled", "All"] = "Off"
    sample: float = Field(gt=0, le=1, default=0.01)
    """The share that is logged with mode Sampled; errors (5xx) always are."""


class RetryBudget(Part):
    """How many further attempts there may be, beside first attempts, over about ten seconds."""

    percent: int = Field(ge=0, le=100, default=20)
    per_second: int = Field(ge=0, default=10)
    """So many are always allowed."""


class Store(Part):
    """The Valkey server that keeps learned keys with mode Store."""

    address: str = ""
    """`host:port`; empty: there is none."""
    database: int = Field(ge=0, default=0)
    username: str = ""
    password: str = Field(repr=False, default="")
    tls: bool = False
    ca: str = ""
    """PEM, with `tls`; empty = the system's."""
    server_name: str = ""
    """What the certificate must name, with `tls`; empty = the address's host."""


class Settings(Part):
    """One fleet's."""

    trusted_proxies: tuple[str, ...] = ()
    """CIDRs whose `X-Forwarded-*`, `Forwarded`, `X-Request-Id` and PROXY headers are believed."""
    proxy_protocol: bool = False
    """Connections from trusted addresses begin with a PROXY header, version 1 or 2."""
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    access_log: AccessLog = AccessLog()
    retry_budget: RetryBudget = RetryBudget()
    store: Store = Store()
    proxies: int = Field(ge=0, default=0)
    """How many the fleet has: what a proxy without leases divides limits by; 0 = not known."""
    zones: dict[str, str] = Field(default_factory=dict)
    """The zone of each proxy, by its pod's name."""
