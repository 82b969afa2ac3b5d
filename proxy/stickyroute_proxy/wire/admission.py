"""Who is let in: connections in all and of one address, requests in flight, and fewer while overloaded.

Those who are turned away are answered at once, so that those who are served are not hurt. Knows no sockets.
"""

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import ip_address
from sys import maxsize
from typing import Final, NamedTuple

from stickyroute_api.settings import Limits

RESERVE: Final = 256
"""Open files that are kept for everything but clients and the connections made for them."""
LINGERING: Final = 64
"""So many refused connections at once hear why; those beyond are only closed."""


class Cause(StrEnum):
    """Why something was turned away: the metric's label."""

    CONNECTIONS = "Connections"
    CONNECTIONS_PER_ADDRESS = "ConnectionsPerAddress"
    REQUESTS = "Requests"
    PIPELINED = "Pipelined"
    OVERLOAD = "Overload"
    OPEN_FILES = "OpenFiles"
    PORTS = "Ports"
    QUEUE_FULL = "QueueFull"
    QUEUE_TIMEOUT = "QueueTimeout"


class Refusal(NamedTuple):
    status: int
    cause: Cause
    message: str


_CONNECTIONS: Final = Refusal(503, Cause.CONNECTIONS, "this proxy has as many connections as it takes")
_PER_ADDRESS: Final = Refusal(
    429, Cause.CONNECTIONS_PER_ADDRESS, "this address has as many connections as it may have"
)
_REQUESTS: Final = Refusal(503, Cause.REQUESTS, "this proxy has as many requests in flight as it takes")
_OVERLOAD: Final = Refusal(503, Cause.OVERLOAD, "this proxy is overloaded, and serves those it knows first")


class Admission:
    """The limits of one process, and what counts towards them."""

    __slots__ = ("_of", "_open_files", "_overloaded", "_per_address", "_requests", "connections", "requests")

    connections: int
    """The most connections of clients."""
    requests: int
    """Above so many exchanges `request` has to be asked: one comparison is all that the others cost."""

    def __init__(self, limits: Limits, open_files: int) -> None:
        """`open_files`: how many the process may have."""
        self._open_files = open_files
        self._overloaded = False
        self.take(limits, ())

    def take(self, limits: Limits, addresses: Iterable[str]) -> None:
        """Admit by these limits. `addresses`: of those who are in, as often as they are."""
        # A client's connection can need another one to an endpoint.
        self.connections = limits.connections or max(1, (self._open_files - RESERVE) // 2)
        self._per_address = limits.connections_per_address
        self._requests = limits.requests or maxsize
        self._of: dict[str | bytes, int] = {}
        if self._per_address:
            for address in addresses:
                key = _key(address)
                self._of[key] = self._of.get(key, 0) + 1
        self.overloaded = self._overloaded

    @property
    def overloaded(self) -> bool:
        """While this holds, a connection's first request is turned away; others go on."""
        return self._overloaded

    @overloaded.setter
    def overloaded(self, value: bool) -> None:
        self._overloaded = value
        self.requests = -1 if value else self._requests

    def enter(self, address: str, connections: int) -> Refusal | None:
        """A client connects, beside so many others; None: it is in until it leaves.

        Without an address only the others count.
        """
        if connections >= self.connections:
            return _CONNECTIONS
        if self._per_address and address:
            key = _key(address)
            count = self._of.get(key, 0)
            if count >= self._per_address:
                return _PER_ADDRESS
            self._of[key] = count + 1
        return None

    def leave(self, address: str) -> None:
        """One who was in has gone."""
        if self._per_address and address:
            key = _key(address)
            count = self._of.get(key, 0) - 1
            if count > 0:
                self._of[key] = count
            else:
                self._of.pop(key, None)

    def request(self, in_flight: int, *, first: bool) -> Refusal | None:
        """A request comes, beside so many others; `first`: of its connection."""
        if in_flight >= self._requests:
            return _REQUESTS
        if self._overloaded and first:
            return _OVERLOAD
        return None


def _key(address: str) -> str | bytes:
    """What counts as one address: of IPv6 a /64, as one host may have that many."""
    return ip_address(address).packed[:8] if ":" in address else address
