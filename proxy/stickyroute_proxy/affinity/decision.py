"""What was decided of a request."""

from typing import Final, NamedTuple

from stickyroute_api.reasons import MOVED, BindingReason
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.token import Binding

HOME: Final = frozenset({BindingReason.BOUND, BindingReason.CONTAINER_RESTARTED, BindingReason.HASHED})
"""The request goes where it belongs: it is tried twice there, and waits there for room."""
NOTICES: Final = {reason: reason.value.encode() for reason in (*MOVED, BindingReason.CONTAINER_RESTARTED)}
"""What the notice header tells the application."""


class Decision:
    """Where a request goes, why, and what client and application are told."""

    __slots__ = ("binding", "endpoint", "notice", "reason", "set_token", "token")

    endpoint: Endpoint | None
    """None: nothing can serve the request, 503; or, with a reason of MOVED, what `failover.refusal` says."""
    reason: BindingReason
    set_token: bytes | None
    """The token for the client to keep; None: it has the right one, or needs none; empty: it is to forget."""
    notice: bytes | None
    """The notice header's value for the application: why the session has lost its pod."""
    token: bytes | None
    """The token of the binding that this decision follows; None without one, and in a stored scope."""
    binding: Binding | None
    """The binding to keep where it is new or has changed; a stored scope has no other trace of it."""

    def __init__(
        self,
        endpoint: Endpoint | None,
        reason: BindingReason,
        set_token: bytes | None = None,
        notice: bytes | None = None,
        token: bytes | None = None,
        *,
        binding: Binding | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.reason = reason
        self.set_token = set_token
        self.notice = notice
        self.token = token
        self.binding = binding


def lodges(decision: Decision) -> bool:
    """Whether the request goes elsewhere for now: the session's binding stays as it is."""
    return decision.endpoint is not None and decision.reason in MOVED and decision.binding is None


class Followed(Decision):
    """By a stored binding that stays as it is: there is no token that could tell it again."""

    __slots__ = ("followed",)

    followed: Binding

    def __init__(
        self, endpoint: Endpoint | None, reason: BindingReason, followed: Binding, notice: bytes | None = None
    ) -> None:
        super().__init__(endpoint, reason, notice=notice)
        self.followed = followed


class Lost(NamedTuple):
    """A binding that holds no more."""

    binding: Binding
    token: bytes | None
    """As it was shown; None in a stored scope."""
    reason: BindingReason


class Parked(Decision):
    """The session's endpoint is away, and may come back: the request waits for it first."""

    __slots__ = ("lost",)

    lost: Lost

    def __init__(self, lost: Lost) -> None:
        super().__init__(None, lost.reason)
        self.lost = lost
