"""How long a rule's exchanges may take, and how much: what its models say, as the data path reads it.

Each request reads some of it, and an attribute of a pydantic model takes ten times as long as a slot.
"""

from dataclasses import dataclass
from typing import Self

from stickyroute_api import snapshot


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Those of `snapshot.Timeouts`."""

    connect: float
    first_byte: float
    body_idle: float
    request: float
    idle: float

    @classmethod
    def of(cls, given: snapshot.Timeouts) -> Self:
        return cls(given.connect, given.first_byte, given.body_idle, given.request, given.idle)


@dataclass(frozen=True, slots=True)
class Limits:
    """Those of `snapshot.Limits`."""

    body_bytes: int | None
    requests_per_endpoint: int
    queue: int
    queue_timeout: float

    @classmethod
    def of(cls, given: snapshot.Limits) -> Self:
        return cls(given.body_bytes, given.requests_per_endpoint, given.queue, given.queue_timeout)
