"""A WebSocket's bytes, both ways, as they come."""

from asyncio import Protocol, Transport
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane


class Tunnel:
    """A client's and an endpoint's connection joined after the 101."""

    __slots__ = ("_closed", "_ends", "_idle", "_last", "_open", "_plane", "touched")

    touched: bool
    """Something has passed since the last look."""

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
        self._open = 2
        self.touched = False

    def begin(self, from_client: bytes, from_upstream: bytes) -> None:
        """Join the two; what each has sent already goes first."""
        plane = self._plane
        plane.counters.tunnels += 1
        plane.tunnels.add(self)
        client, upstream = self._ends
        for end in self._ends:
            end.transport.set_protocol(end)
        if from_upstream:
            upstream.data_received(from_upstream)
        if from_client:
            client.data_received(from_client)
        for end in self._ends:
            if not end.transport.is_closing():
                end.transport.resume_reading()

    def expire(self, now: float) -> None:
        """Close when nothing has passed for too long."""
        if self.touched:
            self.touched = False
            self._last = now
        elif self._idle and now >= self._last + self._idle:
            self.abort()

    def abort(self) -> None:
        for end in self._ends:
            end.transport.abort()

    def lost(self, peer: Transport) -> None:
        """One of the two connections has gone: the other ends once all is written."""
        self._open -= 1
        if self._open:
            peer.close()
            return
        self._plane.counters.tunnels -= 1
        self._plane.tunnels.discard(self)
        self._closed()


class _End(Protocol):
    """One of the two connections: what it receives, its peer sends."""

    __slots__ = ("_peer", "_tunnel", "transport")

    def __init__(self, tunnel: Tunnel, transport: Transport, peer: Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self._peer = peer

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
        """One side is done sending; the other may go on."""
        if not self._peer.is_closing() and self._peer.can_write_eof():
            self._peer.write_eof()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._tunnel.lost(self._peer)
