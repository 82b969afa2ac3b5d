"""A client's connection: reads its requests one after another, and has them answered in that order.

While an exchange is under way, what comes behind its request stays unread, in one buffer and then in the
kernel: pipelining is served in order, and bounded by that alone.
"""

from asyncio import Transport
from functools import partial
from math import inf
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpRequestParser

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.accesslog import Unread
from stickyroute_proxy.certificates import Identity
from stickyroute_proxy.exchange import Exchange
from stickyroute_proxy.wire.admission import LINGERING, Cause, Refusal
from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.closing import Closing
from stickyroute_proxy.wire.forwarding import UNKNOWN, Forwarding, peer_address
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import MalformedError, Reader
from stickyroute_proxy.wire.tunnel import Home, Tunnel
from stickyroute_proxy.wire.upstream import HIGH_WATER, Upstream
from stickyroute_proxy.wire.writing import ANSWER, BODY, HEAD, LEFT, Writing

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane

_NO_HEAD: Final = RequestHead()
"""Of a connection that is at rest."""
_NOBODY: Final = Forwarding(UNKNOWN, secure=False)
"""Of a connection that has not been made."""
_RESET: Final = pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends a reset."""


class Downstream(Writing):
    """One connection; the `Client` of its exchanges."""

    __slots__ = (
        "_ahead",
        "_buffer",
        "_eof",
        "_exchange",
        "_full",
        "_held",
        "_identity",
        "_paused",
        "_reader",
        "_since",
        "due",
        "idle_since",
    )

    idle_since: float
    """When its last exchange ended, or it connected; on the monotonic clock."""

    def __init__(
        self,
        plane: "DataPlane",
        forwarding: Forwarding | None = None,
        identity: Identity | None = None,
    ) -> None:
        """`forwarding`: who the client is, where more is known than the transport tells.

        `identity`: as whom it reached us over TLS; None: it came by plain TCP.
        """
        self._plane = plane
        self._identity = identity
        self.forwarding = forwarding or _NOBODY
        self._reader: Reader | None = None  # of a connection at rest
        self.head = _NO_HEAD
        self._exchange: Exchange | None = None
        self._phase = HEAD
        self._buffer = b""
        self._ahead = 0  # requests in a row that came before the answers to those before them
        self._chunked = self._until_close = False
        self._trailing = None
        self._full = self._held = self._paused = self._eof = False
        self._keep = True
        self.due = inf
        self.idle_since = self._since = 0.0

    # What the transport tells

    def connection_made(self, transport: object) -> None:
        self._transport = cast("Transport", transport)
        if self.forwarding is _NOBODY:
            self.forwarding = Forwarding(
                peer_address(self._transport.get_extra_info("peername")), secure=False
            )
        self.idle_since = self._since = monotonic()
        self._transport.set_write_buffer_limits(HIGH_WATER)
        refusal = self._plane.opened(self, self.forwarding.peer)
        if refusal is not None:
            self._turn_away(refusal)

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase is HEAD and not self._buffer and not self._full:
            self._read_head(data)
        elif phase is BODY and not self._held and not self._buffer:
            self._read_body(data)
        elif phase is not LEFT:
            self._buffer += data
            self._pause()

    def eof_received(self) -> bool:
        """A client that has sent its request may close its half, and still gets the answer."""
        self._eof = True
        return self._phase is ANSWER or bool(self._buffer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        exchange, self._exchange = self._exchange, None
        self._leave()
        self._plane.closed(self)
        if exchange is not None:
            exchange.abandon()

    def pause_writing(self) -> None:
        self._full = True
        if self._exchange is not None:
            self._exchange.client_full()

    def resume_writing(self) -> None:
        self._full = False
        if self._exchange is not None:
            self._exchange.client_drained()
        elif self._phase is HEAD:
            self._go_on()

    # Reading requests

    def _begin(self) -> Reader:
        """Rest no more."""
        reader = self._reader = Reader(HttpRequestParser, self._plane.settings.limits)
        self.head = RequestHead()
        self.head.address = self.forwarding.address
        self._plane.active.add(self)
        return reader

    def _read_head(self, data: bytes) -> None:
        reader, plane = self._reader or self._begin(), self._plane
        head = self.head
        try:
            end = reader.head(data, 0)
            if end < 0:
                if self.due == inf and reader.started:
                    timeout = plane.settings.timeouts.head
                    self.due = monotonic() + timeout if timeout else inf
                return
            head.read(reader.line, reader.headers, plane.kinds, reader.same)
            identity = self._identity
            if identity is not None and head.host != identity.host:
                self._check_host(identity)
            if head.body or not reader.same:  # without a body the same fields bring nothing new
                reader.expect(head.body)
        except MalformedError as error:
            self._refuse_malformed(error)
            return
        forwarding = self.forwarding
        if forwarding.read(head.forwarded, plane.trust):
            head.address = forwarding.address
            head.told = b""
        if not (head.request_id and forwarding.trusted):
            head.request_id = plane.next_id()
        self._keep = head.keep_alive
        if head.body:
            self._phase = BODY
            self._held = True  # until the upstream is ready for it
        else:
            self._phase = ANSWER
        if end < len(data):
            self._buffer = data[end:]
            self._pause()
        now = monotonic()
        exchange = self._exchange = Exchange(plane, self, now)
        exchange.start(now)

    def _check_host(self, identity: Identity) -> None:
        """A host that the certificate shown is not used for is not ours to speak for (RFC 9110, 15.5.20)."""
        table = self._plane.table
        if table is None or not table.certificates.cover(identity, self.head.host):
            raise MalformedError(421, "this connection's certificate is not that of the host: use another")

    def _read_body(self, data: bytes) -> None:
        reader, exchange = self._reader, self._exchange
        if exchange is None or reader is None:
            return
        try:
            parts, pos = reader.body(data, 0)
        except MalformedError as error:
            if exchange.answered:
                exchange.abandon()
                self.truncate()
            else:
                exchange.abandon(error.status, str(error))
                self._exchange = None
                self._answer_malformed(error)
            return
        if reader.done:
            self._phase = ANSWER
            if pos < len(data):
                self._buffer = data[pos:]
                self._pause()
        elif pos < len(data):
            self._buffer = data[pos:]
            self._pause()
            self._plane.loop.call_soon(self._go_on)
        elif self._eof:
            self._transport.abort()
        exchange.send(parts, last=reader.done)

    def _go_on(self) -> None:
        """Read what has waited in the buffer, then on from the kernel."""
        data, self._buffer = self._buffer, b""
        if data and self._phase is HEAD and not self._full:
            self._ahead += 1
            if self._ahead > self._plane.settings.limits.pipelined:
                self._plane.counters.count_shed(Cause.PIPELINED)
                error = MalformedError(429, "too many requests ahead of their answers")
                self._refuse_malformed(error, data)
                return
            self._read_head(data)
        elif data and self._phase is BODY and not self._held:
            self._read_body(data)
        else:
            self._buffer = data
        if self._buffer or self._held or self._phase is LEFT:
            return
        self._ahead = 0
        if self._eof:
            if self._phase is HEAD:
                self._close()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def proceed(self) -> None:
        self.unhold()

    def hold(self) -> None:
        if self._phase is BODY:
            self._held = True
            self._pause()

    def unhold(self) -> None:
        if self._held:
            self._held = False
            self._go_on()

    # Writing answers

    def refuse(
        self, status: int, message: str, *, last: bool = False, location: bytes = b"", extra: bytes = b""
    ) -> None:
        if last or self._phase is BODY or self._plane.draining:
            self._keep = False
        head = self.head
        accept, body = head.field(b"accept"), head.method != b"HEAD"
        self._write_refusal(status, message, accept=accept, body=body, location=location, extra=extra)
        self.end(monotonic())

    def truncate(self) -> None:
        self._exchange = None
        if self._until_close:
            # An HTTP/1.0 client cannot tell this from the answer's end, unless by a reset.
            self._transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._close()

    def tunnel(
        self, upstream: Upstream, answer: AnswerHead, extra: bytes, rest: bytes, home: Home, *, begun: float
    ) -> None:
        exchange, self._exchange = self._exchange, None
        early = self._buffer
        self._transport.write(answer.write(extra, chunked=False))
        plane = self._plane
        plane.active.discard(self)
        self._leave()

        def closed(reason: BindingReason | None) -> None:
            plane.closed(self)
            plane.counters.upstreams -= 1
            if exchange is not None:
                exchange.tunnel_closed(reason)

        tunnel = Tunnel(plane, self._transport, upstream.detach(), home, closed, begun=begun)
        tunnel.begin(early, rest, full=self._full, ended=self._eof)

    def end(self, now: float) -> None:
        self._exchange = None
        self.due = inf  # until it has an exchange again, which says so
        self.idle_since = now
        early = self._buffer and self.head.websocket
        if early or not self._keep or self._phase is BODY or self._plane.stopped:
            self._close()
            return
        self._phase = HEAD
        if self._buffer or self._eof or self._paused:
            self._plane.loop.call_soon(self._go_on)

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer before anything is asked; nothing of what comes is read."""
        self._keep = False
        plane = self._plane
        plane.lingering += 1
        self._leave()
        if plane.lingering > LINGERING:
            Closing(plane, self._transport, plane.turned_away).cut()
            return
        self._write_refusal(refusal.status, refusal.message, accept=b"", body=True)
        Closing(plane, self._transport, plane.turned_away).begin(more=True)

    def _refuse_malformed(self, error: MalformedError, head: bytes = b"") -> None:
        """Answer a head that cannot be understood. `head`: its beginning, where it has not been read."""
        plane = self._plane
        plane.counters.unrouted.add(error.status, 0.0)
        request_id = self.head.request_id = plane.next_id()
        if plane.log is not None:
            now = monotonic()
            record = Unread(self.peer, request_id, secure=self.secure)
            record.status = error.status
            record.tell(str(error))
            record.started = now
            plane.log.add(None, record, now, plane.clock())
        self._answer_malformed(error, head)

    def _answer_malformed(self, error: MalformedError, head: bytes = b"") -> None:
        """Answer what cannot be understood, and close: where another request begins is unknown."""
        counters = self._plane.counters
        counters.refused[error.status] = counters.refused.get(error.status, 0) + 1
        self._phase = BODY
        self._keep = False
        head = head or (b"" if self._reader is None else self._reader.line)
        self._write_refusal(error.status, str(error), body=not head.startswith(b"HEAD "))
        self._close()

    # Deadlines and closing

    @property
    def first(self) -> bool:
        return self.idle_since == self._since

    def expire(self, now: float) -> None:
        """`due` has come."""
        if self._exchange is not None:
            self._exchange.expire(now)
        elif self._phase is HEAD:
            timeout = self._plane.settings.timeouts.head
            message = f"the request's head did not come within the head timeout ({timeout:g} s)"
            self._refuse_malformed(MalformedError(408, message))

    @property
    def _waits(self) -> bool:
        """No request has begun. One that waits until the client takes its answers has not."""
        return (
            self._phase is HEAD
            and (self._full or not self._buffer)
            and not (self._reader is not None and self._reader.started)
        )

    @property
    def at_rest(self) -> bool:
        """It holds as little memory as can be."""
        return self._reader is None

    def rest(self) -> None:
        """Hold as little memory as can be until the next request comes."""
        if self._reader is not None and self._waits and not self._buffer:
            self._plane.active.discard(self)
            self._reader.close()
            self._reader = None
            self.head = _NO_HEAD

    def close_if_idle(self) -> None:
        """Close unless a request has begun."""
        if self._waits:
            self._close()

    def abort(self) -> None:
        self._transport.abort()

    def _close(self) -> None:
        """Close once all is written; while the client may still be sending, read and drop that first."""
        more = (self._phase is BODY or self._paused) and not self._eof
        self._leave()
        self._plane.active.discard(self)
        Closing(self._plane, self._transport, partial(self._plane.closed, self)).begin(more=more)

    def _leave(self) -> None:
        """Nothing is read here from now on."""
        self._phase = LEFT
        self._buffer = b""
        self._paused = self._held = False
        if self._reader is not None:
            self._reader.close()
            self._reader = None
