"""A client's connection: reads its requests one after another, and writes their answers in that order.

While an exchange is under way, what comes behind its request stays unread, in one buffer and then in the
kernel: pipelining is served in order, and bounded by that alone.
"""

from asyncio import Protocol, Transport
from enum import Enum, auto
from math import inf
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpRequestParser

from stickyroute_proxy.certificates import Identity
from stickyroute_proxy.exchange import Exchange
from stickyroute_proxy.wire import errors
from stickyroute_proxy.wire.answer import AnswerHead, chunk
from stickyroute_proxy.wire.forwarding import UNKNOWN, Forwarding, peer_address
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import MalformedError, Reader, Slice
from stickyroute_proxy.wire.tunnel import Tunnel

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane
    from stickyroute_proxy.wire.upstream import Upstream

LINGER: Final = 2.0
"""Seconds in which what a client still sends behind its last answer is read and dropped."""
_NOBODY: Final = Forwarding(UNKNOWN, secure=False)
"""Of a connection that has not been made."""
_RESET: Final = pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends a reset."""


class _Phase(Enum):
    HEAD = auto()
    """Between requests, or in a request's head."""
    BODY = auto()
    """In a request's body."""
    ANSWER = auto()
    """The request has been read; its answer is awaited."""
    CLOSING = auto()
    """The last answer has been given."""


_HEAD, _BODY, _ANSWER, _CLOSING = _Phase


class Downstream(Protocol):
    """One connection; the `Client` of its exchanges."""

    __slots__ = (
        "_buffer",
        "_chunked",
        "_deadline",
        "_eof",
        "_exchange",
        "_forwarding",
        "_full",
        "_held",
        "_identity",
        "_keep",
        "_paused",
        "_pending",
        "_phase",
        "_plane",
        "_reader",
        "_transport",
        "_until_close",
        "head",
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
        self._forwarding = forwarding or _NOBODY
        self._reader = Reader(HttpRequestParser)
        self.head = RequestHead()
        self._exchange: Exchange | None = None
        self._phase = _HEAD
        self._buffer = b""
        self._deadline = inf  # of a head that has begun, or of closing
        self._pending = 0  # bytes the client had not taken when closing was last looked at
        self._chunked = self._until_close = False
        self._full = self._held = self._paused = self._eof = False
        self._keep = True
        self.idle_since = 0.0

    # What the transport tells

    def connection_made(self, transport: object) -> None:
        self._transport = cast("Transport", transport)
        if self._forwarding is _NOBODY:
            self._forwarding = Forwarding(
                peer_address(self._transport.get_extra_info("peername")), secure=False
            )
        self.idle_since = monotonic()
        self._plane.opened(self)

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase is _HEAD and not self._buffer and not self._full:
            self._read_head(data)
        elif phase is _BODY and not self._held:
            self._read_body(data)
        elif phase is not _CLOSING:
            self._buffer += data
            self._pause()

    def eof_received(self) -> bool:
        """A client that has sent its request may close its half, and still gets the answer."""
        self._eof = True
        return self._phase is _ANSWER or bool(self._buffer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        exchange, self._exchange = self._exchange, None
        self._phase = _CLOSING
        self._buffer = b""
        self._reader.close()
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
        elif self._phase is _HEAD:
            self._go_on()

    # Reading requests

    def _read_head(self, data: bytes) -> None:
        reader, head, plane = self._reader, self.head, self._plane
        try:
            end = reader.head(data, 0)
            if end < 0:
                if self._deadline == inf and reader.started:
                    self._deadline = monotonic() + plane.head_timeout
                    plane.active.add(self)
                return
            self._deadline = inf
            head.read(reader.line, reader.headers, plane.kinds, same=reader.same)
            identity = self._identity
            if identity is not None and head.host != identity.host:
                self._check_host(identity)
            reader.expect(head.body)
        except MalformedError as error:
            self._refuse_malformed(error)
            return
        forwarding = self._forwarding
        forwarding.read(head.forwarded, plane.trust)
        if not (head.request_id and forwarding.trusted):
            head.request_id = plane.next_id()
        self._keep = head.keep_alive
        if head.body:
            self._phase = _BODY
            self._held = True  # until the upstream is ready for it
        else:
            self._phase = _ANSWER
        if end < len(data):
            self._buffer = data[end:]
            self._pause()
        plane.active.add(self)
        exchange = self._exchange = Exchange(plane, self)
        exchange.start()

    def _check_host(self, identity: Identity) -> None:
        """A host that the certificate shown is not used for is not ours to speak for (RFC 9110, 15.5.20)."""
        table = self._plane.table
        if table is None or not table.certificates.cover(identity, self.head.host):
            raise MalformedError(421, "this connection's certificate is not that of the host: use another")

    def _read_body(self, data: bytes) -> None:
        reader, exchange = self._reader, self._exchange
        if exchange is None:
            return
        try:
            parts, pos = reader.body(data, 0)
        except MalformedError as error:
            exchange.abandon()
            if exchange.answered:
                self.truncate()
            else:
                self._exchange = None
                self._refuse_malformed(error)
            return
        if reader.done:
            self._phase = _ANSWER
            if pos < len(data):
                self._buffer = data[pos:]
                self._pause()
        elif self._eof:
            self._transport.abort()
        exchange.send(parts, last=reader.done)

    def _go_on(self) -> None:
        """Read what has waited in the buffer, then on from the kernel."""
        data, self._buffer = self._buffer, b""
        if data and self._phase is _HEAD and not self._full:
            self._read_head(data)
        elif data and self._phase is _BODY and not self._held:
            self._read_body(data)
        else:
            self._buffer = data
        if self._buffer or self._held or self._transport.is_closing():
            return
        if self._eof:
            if self._phase is _HEAD:
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
        if self._phase is _BODY:
            self._held = True
            self._pause()

    def unhold(self) -> None:
        if self._held:
            self._held = False
            self._go_on()

    # Writing answers

    def interim(self, answer: AnswerHead) -> None:
        if self.head.http11:
            self._transport.write(answer.write(b"", chunked=False))

    def answer(self, answer: AnswerHead, extra: bytes, parts: list[Slice], *, last: bool) -> None:
        http11 = self.head.http11
        unsized = answer.body < 0
        self._chunked = unsized and http11
        self._until_close = unsized and not http11
        if self._until_close or self._plane.draining or (self._phase is _BODY and answer.status >= 300):
            self._keep = False
        if not self._keep:
            extra += b"Connection: close\r\n"
        elif not http11:
            extra += b"Connection: keep-alive\r\n"
        head = answer.write(extra, chunked=self._chunked)
        if self._chunked:
            parts = chunk(parts, last=last)
        if parts:
            # One write, one system call: it costs more than all that is done here.
            self._transport.writelines((head, *parts))
        else:
            self._transport.write(head)

    def payload(self, parts: list[Slice], *, last: bool) -> None:
        if self._chunked:
            parts = chunk(parts, last=last)
        if parts:
            self._transport.writelines(parts)

    def end(self, now: float) -> None:
        self._next(now)

    def refuse(self, status: int, message: str) -> None:
        if self._phase is _BODY or self._plane.draining:
            self._keep = False
        head = self.head
        self._write_refusal(status, message, accept=head.field(b"accept"), body=head.method != b"HEAD")
        self._next(monotonic())

    def truncate(self) -> None:
        self._exchange = None
        if self._until_close:
            # An HTTP/1.0 client cannot tell this from the answer's end, unless by a reset.
            self._transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
            self._transport.abort()
        else:
            self._close()

    def tunnel(
        self, upstream: "Upstream", answer: AnswerHead, extra: bytes, rest: bytes, idle: float
    ) -> None:
        exchange, self._exchange = self._exchange, None
        early, self._buffer = self._buffer, b""
        self._transport.write(answer.write(extra, chunked=False))
        plane = self._plane
        plane.active.discard(self)
        self._reader.close()

        def closed() -> None:
            plane.closed(self)
            plane.counters.upstreams -= 1
            if exchange is not None:
                exchange.tunnel_closed()

        Tunnel(plane, self._transport, upstream.detach(), idle, closed).begin(early, rest, full=self._full)

    def _next(self, now: float) -> None:
        """The answer has been given: on to the next request, if there can be one."""
        self._exchange = None
        self.idle_since = now
        early = bool(self._buffer) and self.head.websocket
        if self._phase is _BODY or early or not self._keep or self._plane.stopped:
            self._close()
            return
        self._phase = _HEAD
        self._plane.active.discard(self)
        if self._buffer or self._eof or self._paused:
            self._plane.loop.call_soon(self._go_on)

    def _refuse_malformed(self, error: MalformedError) -> None:
        """Answer what cannot be understood, and close: where another request begins is unknown."""
        counters = self._plane.counters
        counters.refused[error.status] = counters.refused.get(error.status, 0) + 1
        counters.unrouted.add(error.status, 0.0)
        self._phase = _BODY
        self._keep = False
        self.head.request_id = b""
        self._write_refusal(error.status, str(error), accept=b"", body=True)
        self._close()

    def _write_refusal(self, status: int, message: str, *, accept: bytes, body: bool) -> None:
        self._transport.write(
            errors.answer(
                status,
                message,
                accept=accept,
                request_id=self.head.request_id or self._plane.next_id(),
                extra=b"" if self._keep else b"Connection: close\r\n",
                body=body,
            )
        )

    # Who the client is

    @property
    def address(self) -> str:
        return self._forwarding.address

    @property
    def scheme(self) -> bytes:
        return self._forwarding.scheme

    @property
    def secure(self) -> bool:
        return self._forwarding.scheme == b"https"

    def forwarding(self, authority: bytes) -> bytes:
        return self._forwarding.lines(authority)

    # Deadlines and closing

    def expire(self, now: float) -> None:
        """Look at the deadlines; called a few times a second while there can be one."""
        if self._exchange is not None:
            self._exchange.expire(now)
        elif now < self._deadline:
            return
        elif self._phase is _CLOSING:
            pending = self._transport.get_write_buffer_size()
            if 0 < pending < self._pending:
                self._pending = pending  # it still reads
                self._deadline = now + LINGER
            else:
                self._transport.abort()
        elif self._phase is _HEAD:
            self._refuse_malformed(MalformedError(408, "the request's head did not come in time"))

    def close_if_idle(self) -> None:
        """Close unless a request has begun. One that waits until the client takes its answers has not."""
        if self._phase is _HEAD and (self._full or not self._buffer) and not self._reader.started:
            self._close()

    def abort(self) -> None:
        self._transport.abort()

    def _close(self) -> None:
        """Close once all is written; while the client may still be sending, read and drop that first."""
        unread = self._phase is _BODY or self._paused
        self._phase = _CLOSING
        self._buffer = b""
        self._deadline = monotonic() + LINGER
        self._pending = self._transport.get_write_buffer_size() + 1
        self._plane.active.add(self)
        if self._transport.is_closing():
            return
        if unread and not self._eof and self._transport.can_write_eof():
            self._transport.write_eof()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
        else:
            self._transport.close()
