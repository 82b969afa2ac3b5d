"""The writing half of a client's connection: what exchanges answer, and what is answered in their place."""

from asyncio import Protocol, Transport
from enum import Enum, auto
from typing import TYPE_CHECKING

from stickyroute_proxy.wire import errors
from stickyroute_proxy.wire.answer import AnswerHead, chunk
from stickyroute_proxy.wire.forwarding import Forwarding
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import Slice
from stickyroute_proxy.wire.unread import unread

if TYPE_CHECKING:
    from stickyroute_proxy.wire.listener import DataPlane


class Phase(Enum):
    HEAD = auto()
    """Between requests, or in a request's head."""
    BODY = auto()
    """In a request's body."""
    ANSWER = auto()
    """The request has been read; its answer is awaited."""
    LEFT = auto()
    """The connection is another's: it closes, or is a tunnel."""


HEAD, BODY, ANSWER, LEFT = Phase


class Writing(Protocol):
    """The part of a `Downstream` that answers the request whose head has been read."""

    # The downstream sets them all: one for each connection, memory is dear.
    __slots__ = (
        "_chunked",
        "_keep",
        "_phase",
        "_plane",
        "_trailing",
        "_transport",
        "_until_close",
        "forwarding",
        "head",
    )

    head: RequestHead
    _plane: "DataPlane"
    _transport: Transport
    forwarding: Forwarding
    _phase: Phase
    _keep: bool
    """The connection lives on behind the present answer."""
    _chunked: bool
    """The answer goes in chunks."""
    _until_close: bool
    """The connection's end is the answer's."""
    _trailing: AnswerHead | None
    """The answer whose trailers the client takes."""

    def interim(self, answer: AnswerHead) -> None:
        if self.head.http11:
            self._transport.write(answer.write(b"", chunked=False))

    def answer(self, answer: AnswerHead, extra: bytes, parts: list[Slice], last: bool) -> None:
        head = self.head
        http11 = head.http11
        unsized = answer.body < 0
        self._chunked = unsized and http11
        self._until_close = unsized and not http11
        early = self._phase is BODY and (last or answer.status >= 300)
        if early or self._until_close or self._plane.draining:
            self._keep = False
        if not self._keep:
            extra += b"Connection: close\r\n"
        elif not http11:
            extra += b"Connection: keep-alive\r\n"
        if not answer.dated:
            extra += self._plane.date
        if self._chunked:
            self._trailing = answer if head.trailers else None
            if head.trailers:
                extra += answer.trailer
            parts = self._chunk(parts, last=last)
        written = answer.write(extra, self._chunked)
        if parts:
            # One write, one system call: it costs more than all that is done here.
            self._transport.writelines([written, *parts])
        else:
            self._transport.write(written)

    def payload(self, parts: list[Slice], *, last: bool) -> None:
        if self._chunked:
            parts = self._chunk(parts, last=last)
        if parts:
            self._transport.writelines(parts)

    def _chunk(self, parts: list[Slice], *, last: bool) -> list[Slice]:
        return chunk(parts, last=last, trailers=self._trailing.trailers if last and self._trailing else b"")

    def _write_refusal(
        self,
        status: int,
        message: str,
        *,
        body: bool,
        accept: bytes = b"",
        location: bytes = b"",
        extra: bytes = b"",
    ) -> None:
        extra += self._plane.date if self._keep else self._plane.date + b"Connection: close\r\n"
        self._transport.write(
            errors.answer(
                status,
                message,
                accept=accept,
                request_id=self.head.request_id or self._plane.next_id(),
                location=location,
                extra=extra,
                body=body,
            )
        )

    @property
    def unread(self) -> int:
        return unread(self._transport)

    # Who the client is

    @property
    def address(self) -> str:
        return self.forwarding.address

    @property
    def peer(self) -> str:
        """The address at the connection's other end, or the one that its PROXY header names."""
        return self.forwarding.peer

    @property
    def scheme(self) -> bytes:
        return self.forwarding.scheme

    @property
    def secure(self) -> bool:
        return self.forwarding.scheme == b"https"
