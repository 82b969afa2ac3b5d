"""What an exchange waits for, how long, and what its client is told when it does not come."""

from collections.abc import Callable
from typing import Final, NamedTuple

from stickyroute_proxy.table import Rule


class Wait(NamedTuple):
    """One thing that has its time."""

    status: int
    message: str
    timeout: str
    """The timeout's name, for people."""
    seconds: Callable[[Rule], float]
    """By the request's rule; 0 = no limit."""

    def told(self, rule: Rule) -> str:
        return f"{self.message} within the {self.timeout} timeout ({self.seconds(rule):g} s)"


def _stall(rule: Rule) -> float:
    """What bounds a peer that takes nothing, where the request timeout does not."""
    return 0.0 if rule.timeouts.request else rule.timeouts.body_idle


ROOM: Final = Wait(
    503, "no request on the endpoint came to its end", "queue", lambda rule: rule.limits.queue_timeout
)
LIMIT: Final = Wait(
    503,
    "every endpoint has as many sessions or requests as it takes, and none ended",
    "queue",
    lambda rule: rule.limits.queue_timeout,
)
QUEUED: Final = (ROOM, LIMIT)
CONNECTION: Final = Wait(
    504, "the endpoint took no connection", "connect", lambda rule: rule.timeouts.connect
)
HOLD: Final = Wait(
    503,
    "the endpoint of the session did not come back",
    "hold",
    lambda rule: rule.scope.policy.failover.hold,
)
"""Nobody is told: what then becomes of the session is decided."""
BODY: Final = Wait(
    408, "no further part of the request's body came", "body-idle", lambda rule: rule.timeouts.body_idle
)
ENDPOINT: Final = Wait(504, "the endpoint took no further part of the request's body", "body-idle", _stall)
ANSWER: Final = Wait(
    504, "the endpoint did not begin to answer", "first-byte", lambda rule: rule.timeouts.first_byte
)
CLIENT: Final = Wait(408, "the client took no further part of the answer", "body-idle", _stall)
"""Nobody is told where the answer has begun."""
WHOLE_BODY: Final = Wait(
    408, "the request did not come to its end", "request", lambda rule: rule.timeouts.request
)
WHOLE: Final = Wait(504, "the endpoint did not answer", "request", lambda rule: rule.timeouts.request)
