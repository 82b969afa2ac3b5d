"""A WebSocket's bytes, both ways, as they come."""

from asyncio import Protocol, Transport
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from stickyroute_proxy.wire.unread import unread

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane


LINGER: Final = 30.0
"""Seconds without progress after which the rest of an ended tunnel is given up."""


class Tunnel:
    """A client's and an endpoint's connection joined after the 101."""

    __slots__ = (
        "_closed",
        "_ends",
        "_idle",
        "_last",
        "_pending",
        "_plane",
        "_rest",
        "half_closed",
        "touched",
    )

    touched: bool
    """Something has passed since the last look."""
    half_closed: bool
    """One side is done sending."""

    def __init__(
        self,
        plane: "DataPlane",
        client: Transport,
        upstream: Transport,
        idle: float,
        closed: Callable[[], None],
    ) -> None:
        """`idle`: it closes after so many seconds without a byte, 0: never. `closed` is called once."""
        self._plane = plane
        self._idle = idle
        self._closed = closed
        self._last = monotonic()
        self._ends = (_End(self, client, upstream), _End(self, upstream, client))
        self._rest: Transport | None = None  # the one connection that is left
        self._pending = 0  # bytes it had not taken at the last look
        self.half_closed = self.touched = False

    def begin(self, from_client: bytes, from_upstream: bytes, *, full: bool) -> None:
        """Join the two; what each has sent already goes first. `full`: the client takes no more for now."""
        plane = self._plane
        plane.counters.tunnels += 1
        plane.tunnels.add(self)
        client, upstream = self._ends
        for end in self._ends:
            end.transport.set_protocol(end)
            if not end.transport.is_closing():
                end.transport.resume_reading()
        # From here on only: writing may pause the reading again.
        if full:
            client.pause_writing()
        if from_upstream:
            upstream.data_received(from_upstream)
        if from_client:
            client.data_received(from_client)

    def expire(self, now: float) -> None:
        """Close when nothing has passed for too long."""
        if self._rest is not None:
            pending = unread(self._rest)
            if pending < self._pending:
                self._pending = pending
                self._last = now
            elif now >= self._last + LINGER:
                self._rest.abort()
        elif self.touched:
            self.touched = False
            self._last = now
        elif self._idle and now >= self._last + self._idle:
            self.abort()

    def abort(self) -> None:
        for end in self._ends:
            end.transport.abort()

    def lost(self, peer: Transport) -> None:
        """One of the two connections has gone: the other ends once all is written."""
        if self._rest is None:
            self._rest = peer
            self._pending = unread(peer)
            self._last = monotonic()
            peer.close()
            return
        self._plane.counters.tunnels -= 1
        self._plane.tunnels.discard(self)
        self._closed()


class _End(Protocol):
    """One of the two connections: what it receives, its peer sends."""

    __slots__ = ("_ended", "_peer", "_tunnel", "transport")

    def __init__(self, tunnel: Tunnel, transport: Transport, peer: Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self._peer = peer
        self._ended = False

    def data_received(self, data: bytes) -> None:
        self._tunnel.touched = True
        self._peer.write(data)

    def pause_writing(self) -> None:
        if not self._peer.is_closing():
            self._peer.pause_reading()

    def resume_writing(self) -> None:
        if not self._peer.is_closing():
            self._peer.resume_reading()

    def eof_received(self) -> bool:
        """One side is done sending; the other may go on until it is done too."""
        if self._peer.is_closing() or (self._tunnel.half_closed and not self._ended):
            return False
        self._ended = self._tunnel.half_closed = True
        self._peer.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._tunnel.lost(self._peer)
