"""Leases: what the operator tells one proxy of the whole fleet, again and again.

Sessions and requests of one pod are spread over the proxies; limits, drains and rebalancing are about their
sum. The operator merges the proxies' affinity reports and shares out what is left. A lease holds until the
next: with the operator away the proxies go by the last.

Durations are seconds, times are Unix seconds.
"""

from typing import Final

from pydantic import Field, TypeAdapter

from stickyroute_api.part import Part, Seconds


class Lease(Part):
    """What one proxy may place on one endpoint in one scope; None: no limit."""

    placed: int | None = Field(ge=0, default=None)
    """New sessions while `EndpointSessions.placed` is below it."""
    requests: int | None = Field(ge=0, default=None)
    """Requests in flight before new sessions go elsewhere."""


class Drain(Part):
    """The sessions of one draining pod over the whole fleet."""

    sessions: int = Field(ge=0)
    """Active in any scope, those that only ended proxies knew included until their idle timer is over."""
    requests: int = Field(ge=0, default=0)
    """In flight, tunnels among them."""
    tunnels: int = Field(ge=0, default=0)
    since: Seconds
    """`Endpoint.draining_since`: of which drain this tells, where a successor has the pod's name."""


DRAINS: Final = TypeAdapter(dict[str, Drain])
"""Reads and writes drains by `namespace/pod`."""


class Moves(Part):
    """Idle sessions that one proxy may move from an endpoint to others of its scope."""

    sessions: int = Field(ge=0)
    """So many more, of those that it knows idle."""


class Leases(Part):
    """The body of `PUT /v1/leases`. What it does not name has no lease."""

    fleet: str
    epoch: int = Field(ge=0)
    """The operator's; an older one is refused with 409."""
    sequence: int = Field(ge=0)
    """Grows with each; an older one of the same epoch is refused with 409."""
    scopes: dict[str, dict[str, Lease]] = Field(default_factory=dict)
    """By scope identity and `Endpoint.id`."""
    drains: dict[str, Drain] = Field(default_factory=dict)
    """By `namespace/pod`. Only those that every current proxy has told of: of others nothing is known yet."""
    moves: dict[str, dict[str, Moves]] = Field(default_factory=dict)
    """By scope identity and `Endpoint.id`."""

    @property
    def empty(self) -> bool:
        """Whether it names nothing."""
        return not (self.scopes or self.drains or self.moves)
