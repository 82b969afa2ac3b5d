"""The end of a client's connection: all is written, and what the client still sends is read and dropped.

Closing at once, with something unread, would have the kernel reset the connection, and the client might never
see its answer.
"""

from asyncio import Protocol, Transport
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from stickyroute_proxy.wire.unread import unread

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane

LINGER: Final = 2.0
"""Seconds that a client has to close, once it has been sent everything and sends no more."""
STALL: Final = 30.0
"""Seconds in which it has to take something, while there is something to take; and to end what it sends."""


class Closing(Protocol):
    """Takes a connection over behind its last answer."""

    __slots__ = ("_began", "_closed", "_more", "_plane", "_since", "_transport", "_unread", "due")

    due: float
    """When `expire` is to be called, on the monotonic clock."""

    def __init__(self, plane: "DataPlane", transport: Transport, closed: Callable[[], None]) -> None:
        """`closed` is called once."""
        self._plane = plane
        self._closed = closed
        self._transport = transport
        self._unread = unread(transport)  # at the last look
        self._more = False  # something has come since the last look
        self._began = self._since = monotonic()  # when it last took something
        self.due = self._since + LINGER

    def begin(self, *, more: bool) -> None:
        """`more`: the client may have sent more than was read, or still send it."""
        transport = self._transport
        self._plane.active.add(self)
        transport.set_protocol(self)
        if transport.is_closing():
            return
        if more and transport.can_write_eof():
            transport.write_eof()
            if not transport.is_reading():
                transport.resume_reading()
        else:
            transport.close()

    def cut(self) -> None:
        """Close at once, and say nothing."""
        self._transport.set_protocol(self)
        self._transport.abort()

    def expire(self, now: float) -> None:
        """`due` has come."""
        left = unread(self._transport)
        if left < self._unread:
            self._unread = left
            self._since = now
        elif self._more and now < self._began + STALL:
            self._more = False
            self._since = now
        elif now >= self._since + (STALL if left else LINGER):
            self._transport.abort()
            return
        self.due = now + LINGER

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - it is dropped
        self._more = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._plane.active.discard(self)
        self._closed()
