"""A connection to an endpoint: writes requests, reads answers, and is kept only when nothing is in doubt."""

from asyncio import Protocol, Transport, get_running_loop
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpResponseParser

from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.parser import UNTIL_CLOSE, MalformedError, Reader, Slice
from stickyroute_proxy.wire.pool import Pool

if TYPE_CHECKING:
    from stickyroute_proxy.exchange import Exchange
    from stickyroute_proxy.wire.counters import Counters

MAX_INTERIMS: Final = 32
"""The most 1xx answers to one request."""
HIGH_WATER: Final = 64 * 1024
"""Bytes that may wait to be written, either way, before the reading of what causes them pauses."""


class Upstream(Protocol):
    """One connection; serves one exchange at a time."""

    __slots__ = (
        "_answer",
        "_answering",
        "_corked",
        "_counters",
        "_exchange",
        "_in_body",
        "_interims",
        "_paused",
        "_pool",
        "_reader",
        "_rest",
        "_reused",
        "_to_head",
        "_transport",
        "closing",
        "idle_since",
        "writable",
    )

    idle_since: float
    """When it was put into the pool, on the monotonic clock."""
    closing: bool
    writable: bool
    """Its write buffer is below the high-water mark."""

    def __init__(self, pool: Pool, counters: "Counters") -> None:
        self._pool = pool
        self._counters = counters
        self._exchange: Exchange | None = None
        self._reader = Reader(HttpResponseParser)
        self._answer = AnswerHead()
        self._in_body = self._to_head = self._paused = False
        self._interims = 0  # 1xx answers to the present request
        self._rest = b""  # received, and left for a later turn
        self._corked: list[Slice] | None = None
        self._reused = False  # it has served an exchange before the present one
        self._answering = False  # a byte of the present answer has come
        self.closing = False
        self.writable = True
        self.idle_since = 0.0

    # What the exchange asks for

    def begin(self, exchange: "Exchange", head: bytes, to_head: bool) -> None:
        """Send a request's head; its answer goes to `exchange`."""
        self._exchange = exchange
        self._in_body = self._answering = False
        self._interims = 0
        self._to_head = to_head
        if self._corked is None:
            self._transport.write(head)
        else:
            self._corked.append(head)

    def cork(self) -> None:
        """Gather what is sent, so that a head and the body that came with it are one write."""
        self._corked = []

    def uncork(self) -> None:
        parts, self._corked = self._corked, None
        if parts and not self.closing:
            self._transport.writelines(parts)

    def send(self, parts: list[Slice]) -> None:
        """Send a part of the request's body, framed already."""
        if self._corked is None:
            self._transport.writelines(parts)
        else:
            self._corked += parts

    def pause(self) -> None:
        """The client takes no more for now."""
        if not self.closing and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.closing and self._paused:
            self._paused = False
            if not self._rest:
                self._transport.resume_reading()

    @property
    def unanswered_reuse(self) -> bool:
        """It has been used before, and not a byte has answered the present request."""
        return self._reused and not self._answering

    def close(self) -> None:
        """Close; what comes of the present exchange's answer is ignored."""
        self._exchange = None
        if not self.closing:
            self.closing = True
            self._transport.abort()

    def detach(self) -> Transport:
        """Hand the transport over to a tunnel."""
        self._exchange = None
        self.closing = True
        self._reader.close()
        return self._transport

    # What the transport tells

    def connection_made(self, transport: object) -> None:
        self._transport = cast("Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER)
        self._counters.upstreams += 1

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # Nobody asked: whatever it is, it must not become the next request's answer.
            self._pool.drop(self)
            self.close()
            return
        self._answering = True
        if self._rest:
            self._rest += data
            return
        try:
            self._read(exchange, data)
        except MalformedError as error:
            self.close()
            exchange.upstream_failed(self, f"malformed answer: {error}")

    def _read(self, exchange: "Exchange", data: bytes) -> None:  # noqa: C901 - one walk over what came
        reader = self._reader
        pos = 0
        if not self._in_body:
            answer = self._answer
            while True:
                pos = reader.head(data, pos)
                if pos < 0:
                    return
                answer.read(reader.line, reader.headers, self._to_head, reader.same)
                if answer.status >= 200:
                    break
                if answer.status == 101:
                    if not exchange.wants_tunnel or not answer.websocket:
                        raise MalformedError(502, "101 to a request that asked for no such upgrade")
                    exchange.open_tunnel(self, answer, data[pos:])
                    return
                self._interims += 1
                if self._interims > MAX_INTERIMS:
                    raise MalformedError(502, f"more than {MAX_INTERIMS} interim answers")
                reader.expect(0)
                exchange.interim(answer)
                if pos == len(data):
                    return
            reader.expect(answer.body, True)
        parts: list[Slice] = []
        if not reader.done:
            parts, pos = reader.body(data, pos)
            if reader.trailers:
                self._answer.take_trailers(reader.trailers)
        if self._in_body:
            if parts or reader.done:
                exchange.payload(parts, last=reader.done)
        else:
            self._in_body = True
            exchange.answer(self._answer, parts, reader.done)
        if reader.done:
            self._end(exchange, pos == len(data))
        elif pos < len(data) and not self.closing:
            self._rest = data[pos:]
            self._transport.pause_reading()
            get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Read what was left for this turn, then on from the kernel."""
        rest, self._rest = self._rest, b""
        if self.closing:
            return
        self.data_received(rest)
        if not (self._rest or self._paused or self.closing):
            self._transport.resume_reading()

    def _end(self, exchange: "Exchange", clean: bool) -> None:
        if self._exchange is None:
            return  # the client went while the last part was passed on
        self._exchange = None
        self._reused = True
        now = monotonic()
        if not (
            clean
            and self._answer.keep_alive
            and exchange.request_sent
            and self.writable
            and self._pool.put(self, now)
        ):
            self.close()
        elif self._paused:
            self.resume()
        exchange.ended(now)

    def eof_received(self) -> bool:
        exchange = self._exchange
        if exchange is not None and self._in_body and self._answer.body == UNTIL_CLOSE:
            self.close()
            exchange.payload([], last=True)
            exchange.ended(monotonic())
        elif not self.closing:
            # No answer can come any more: nothing may take it from the pool, or wait until all is written.
            self.closing = True
            self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        exchange, self._exchange = self._exchange, None
        self._counters.upstreams -= 1
        self.closing = True
        if not exchange:
            self._pool.drop(self)
        self._reader.close()
        if exchange is not None:
            exchange.upstream_failed(self, "connection closed before the answer's end")

    def pause_writing(self) -> None:
        self.writable = False
        if self._exchange is not None:
            self._exchange.upstream_full()

    def resume_writing(self) -> None:
        self.writable = True
        if self._exchange is not None:
            self._exchange.upstream_drained()
