"""A WebSocket's bytes, both ways, as they come.

Of what the endpoint sends the frames' lengths are followed, so that a tunnel can be ended from here as an
endpoint would end it: with a Close frame between two others. The client's own Close then passes to the
endpoint, which sees its client leave.
"""

from asyncio import Protocol, Transport
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.bind import bound_at
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.scope import Scope
from stickyroute_proxy.wire.frames import GOING_AWAY, Frames
from stickyroute_proxy.wire.unread import unread

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane


LINGER: Final = 30.0
"""Seconds without progress after which the rest of an ended tunnel is given up."""
BOUNDARY: Final = 1.0
"""Seconds in which a frame has to end, so that a tunnel can be ended with a Close frame behind it."""
GOODBYE: Final = 5.0
"""Seconds that client and endpoint then have to close."""


class Home(NamedTuple):
    """What a tunnel was opened by."""

    scope: Scope
    endpoint: Endpoint
    epoch: int
    """Of the scope's policy."""
    idle: float
    """It closes after so many seconds without a byte; 0: never."""


class Tunnel:
    """A client's and an endpoint's connection joined after the 101."""

    __slots__ = (
        "_closed",
        "_due",
        "_ends",
        "_last",
        "_pending",
        "_plane",
        "_rest",
        "begun",
        "half_closed",
        "home",
        "opened",
        "reason",
        "touched",
    )

    touched: bool
    """Something has passed since the last look."""
    half_closed: bool
    """One side is done sending."""
    home: Home
    opened: float
    """Unix seconds; as with a binding, not before its pod was released."""
    begun: float
    """When its session began (Unix seconds); inf: it has none."""
    reason: BindingReason | None
    """Why it is to end; None: it may go on."""

    def __init__(
        self,
        plane: "DataPlane",
        client: Transport,
        upstream: Transport,
        home: Home,
        closed: Callable[[BindingReason | None], None],
        *,
        begun: float,
    ) -> None:
        """`closed` is called once, with the reason if it was ended from here."""
        self._plane = plane
        self._closed = closed
        self._last = monotonic()
        self.home = home
        self.opened = bound_at(home.scope, home.endpoint, plane.clock())
        self.begun = begun
        self.reason = None
        self._ends = (_End(self, client, upstream), _Framed(self, upstream, client))
        self._due = inf  # when the end that was begun has to be over
        self._rest: Transport | None = None  # the one connection that is left
        self._pending = 0  # bytes it had not taken at the last look
        self.half_closed = self.touched = False

    def begin(self, from_client: bytes, from_upstream: bytes, *, full: bool, ended: bool) -> None:
        """Join the two; what each has sent already goes first.

        `full`: the client takes no more for now; `ended`: it is done sending.
        """
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
        if ended:
            client.eof_received()

    def expire(self, now: float) -> None:
        """Close when nothing has passed for too long."""
        if self._rest is not None:
            pending = unread(self._rest)
            if pending < self._pending:
                self._pending = pending
                self._last = now
            elif now >= self._last + LINGER:
                self._rest.abort()
        elif now >= self._due:
            self._ends[1].transport.abort()  # the client's follows, when all is written
        elif self.touched:
            self.touched = False
            self._last = now
        elif self.home.idle and now >= self._last + self.home.idle:
            self.abort()

    def end(self, reason: BindingReason, now: float) -> None:
        """End it behind the frame that is under way."""
        upstream = self._ends[1]
        if self._rest is not None or not isinstance(upstream, _Framed):
            return
        self.reason = reason
        self._due = now + BOUNDARY
        last = _Last(self, upstream)
        upstream.transport.set_protocol(last)
        if upstream.frames.between:
            last.say_goodbye()

    def said_goodbye(self) -> None:
        """The client has been told; what it answers goes to the endpoint."""
        self._due = monotonic() + GOODBYE

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
        self._closed(self.reason)


class _End(Protocol):
    """One of the two connections: what it receives, its peer sends."""

    __slots__ = ("_ended", "_peer", "_tunnel", "transport")

    _ended: bool
    """It is done sending."""

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
        if self._ended:
            return True  # the loop says it again where reading is resumed
        if self._peer.is_closing() or self._tunnel.half_closed:
            return False
        self._ended = self._tunnel.half_closed = True
        self._peer.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        self._tunnel.lost(self._peer)


class _Framed(_End):
    """The endpoint's connection, with its frames followed."""

    __slots__ = ("frames",)

    def __init__(self, tunnel: Tunnel, transport: Transport, peer: Transport) -> None:
        super().__init__(tunnel, transport, peer)
        self.frames = Frames()

    def data_received(self, data: bytes) -> None:
        self._tunnel.touched = True
        self._peer.write(data)
        self.frames.follow(data)


class _Last(_End):
    """The endpoint's connection in a tunnel that ends: the frame under way is the last that passes."""

    __slots__ = ("_frames", "_said")

    def __init__(self, tunnel: Tunnel, before: _Framed) -> None:
        super().__init__(tunnel, before.transport, before._peer)  # noqa: SLF001 - it takes its place
        self._ended = before._ended  # noqa: SLF001 - as above
        self._frames = before.frames
        self._said = False

    def say_goodbye(self) -> None:
        self._said = True
        if not (self._ended or self._peer.is_closing()):
            self._peer.write(GOING_AWAY)
        self._tunnel.said_goodbye()

    def data_received(self, data: bytes) -> None:
        if self._said:
            return  # nothing follows a Close frame
        end = self._frames.boundary(data)
        self._peer.write(data[:end] if end else data)
        if end:
            self.say_goodbye()
