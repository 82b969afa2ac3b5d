"""The one place that parses: llhttp reads the messages, this knows where each part of them ends.

llhttp (through httptools, strict) judges every byte of heads and of chunked framing. What it does not tell is
positions, so a `Reader` feeds it exactly up to a head's end or a chunk line's end and never past a message:
what follows is the next message, or garbage, and the protocol above decides which. Bodies are handed on as
slices of what was received; llhttp only counts them. Both counts have to agree.

Peers on kept-alive connections mostly repeat themselves. Fields that are byte for byte those of the last head
are not read again: the same bytes mean the same.

llhttp knows a fixed list of methods. Any other token goes through as well: llhttp reads GET in its place.
"""

from collections.abc import Callable
from re import compile as regex
from typing import Any, Final

from httptools import (
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from stickyroute_api.settings import Limits

CHUNKED: Final = -1
"""A body in chunks. Known lengths are numbers from 0."""
UNTIL_CLOSE: Final = -2
"""An answer's body that the end of the connection ends."""

MAX_METHOD: Final = 32
"""The most bytes of a method."""
MAX_CHUNK_LINE: Final = 1024
"""The most bytes of a chunk's size line with its extensions."""
MAX_TRAILERS: Final = 8 * 1024
"""The most bytes of a trailer section."""
MAX_PARTS: Final = 256
"""How many chunks are read in one turn: what comes in chunks of a byte would keep others waiting."""

_ANSWERS: Final = Limits()
"""What answers may measure: not for a client to say, and so not a setting."""
TOKEN: Final = regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
METHODS: Final = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL"
    b" MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SUBSCRIBE TRACE"
    b" UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""The methods of HTTP/1.1 that llhttp knows."""
_COMMON: Final = (b"GET ", b"HTTP/", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
"""How most first lines begin: nothing has to be looked up for them."""
_CHUNK_SIZE: Final = regex(rb"[0-9A-Fa-f]{1,15}(?=[;\r])")
_CHUNKED_HEAD: Final = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
_COPY: Final = 16 * 1024
"""Slices up to this size are copied: cheaper than a view."""

Slice = bytes | memoryview
Headers = list[tuple[bytes, bytes]]
_NO_FIELDS: Final[Headers] = []


class MalformedError(Exception):
    """A message that cannot be read or served; `status` is what a client is told of its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Reader:
    """Reads the messages of one direction of one connection, one after another."""

    __slots__ = (
        "_complete",
        "_count",
        "_counted",
        "_fed",
        "_fields",
        "_finished",
        "_head",
        "_left",
        "_make",
        "_max_fields",
        "_max_head",
        "_max_target",
        "_mode",
        "_parser",
        "_partial",
        "_repeatable",
        "_stale",
        "_trailing",
        "_whole",
        "done",
        "headers",
        "line",
        "on_header",
        "on_headers_complete",
        "on_message_complete",
        "same",
        "trailers",
    )

    line: bytes
    """The first line of the last head, without its end; empty while a head comes in pieces."""
    headers: Headers
    """The fields of the last head, as received, values without surrounding white space; one list for all."""
    trailers: Headers
    """The fields behind the last chunked body, once it is done."""
    same: bool
    """The last head's fields are those of the head before it, byte for byte."""
    done: bool
    """The last message has been read to its end."""

    def __init__(self, make: type[HttpRequestParser | HttpResponseParser], limits: Limits = _ANSWERS) -> None:
        self.headers = []
        append = self.headers.append

        # A closure over the list is the cheapest callback there is; it runs once for each field.
        def on_header(name: bytes, value: bytes) -> None:
            append((name, value))

        self.on_header: Callable[[bytes, bytes], None] = on_header
        self.on_headers_complete = self._on_headers_complete
        self.on_message_complete = self._on_message_complete
        self._max_head = limits.head_bytes
        self._max_fields = limits.head_fields
        self._max_target = limits.target_bytes
        self._make: Any = make
        self._parser: Any = make(self)
        self._partial = b""
        self._fed = 0  # bytes of it that llhttp has seen
        self._complete = False  # llhttp has seen the head's end
        self._finished = False  # llhttp has seen the message's end
        self._stale = False  # the next message needs a new parser
        self._head = self._fields = b""  # the last head as it came, and its part behind the first line
        self._whole = self._repeatable = b""  # the same, if they may come again without being read
        self._counted = True  # llhttp counts the body too
        self._mode = 0
        self._left = 0
        self._count = 0  # fields of the head before a chunked body
        self._trailing = -1  # bytes of trailers so far; -1: not there yet
        self.trailers = _NO_FIELDS
        self.done = True
        self.same = False
        self.line = b""

    @property
    def started(self) -> bool:
        """Whether part of a head has come, and not yet its end."""
        return bool(self._partial)

    def close(self) -> None:
        """Break the cycle between parser and callbacks; nothing can be read any more."""
        del self._parser, self.on_headers_complete, self.on_message_complete

    def head(self, data: bytes, pos: int) -> int:
        """Read a head from `data[pos:]`: the position behind it, or -1 when its end has not come yet.

        In the latter case all of `data` has been consumed. Raises MalformedError.
        """
        whole = self._whole
        if whole and not pos and not self._partial:
            end = len(whole)
            if data[:end] == whole:
                self.same = True
                return end
            # Taken apart, not searched: `find` takes its arguments in a way that costs more than the search.
            line, _, rest = data[: self._max_head].partition(b"\r\n")
            repeatable = self._repeatable
            if line and rest[: len(repeatable)] == repeatable:
                if len(line) > self._max_target:
                    self._bound(line, 0)
                self.line = line
                self.same = True
                end = len(line) + 2 + len(repeatable)
                self._whole = data[:end]
                return end
        end = data.find(b"\r\n\r\n", pos) + 4
        if end == 3 or self._partial or data.startswith(b"\r\n", pos):
            return self._split_head(data, pos)
        line_end = data.find(b"\r\n", pos)
        self.line = line = data[pos:line_end]
        if end - pos > self._max_head or len(line) > self._max_target:
            self._bound(line, end - pos)
        self.same = False
        self._head = message = data[pos:end]
        self._fields = data[line_end + 2 : end]
        if self._stale:
            self._renew()
        self._finished = False
        self.headers.clear()
        self.trailers = _NO_FIELDS
        self._feed(message if line.startswith(_COMMON) else self._readable(message))
        if not self._complete or len(self.headers) > self._max_fields:
            raise self._unfit_head()
        self._complete = False
        return end

    def _split_head(self, data: bytes, pos: int) -> int:
        """The same for a head that comes in pieces: llhttp sees each at once, so that bad ones fail early."""
        if self._stale:
            self._renew()
        self.same = False
        self.line = self._head = self._fields = self._whole = self._repeatable = b""
        head = self._partial + data[pos:]
        seen = len(self._partial)
        if self._partial in (b"", b"\r"):
            seen = skip = 0
            while head.startswith(b"\r\n", skip):
                skip += 2  # empty lines before a request are allowed, and nobody else's business
            head = head[skip:]
            if head in (b"", b"\r"):
                self._partial = head
                return -1
            self._finished = False
            self.headers.clear()
            self.trailers = _NO_FIELDS
        end = head.find(b"\r\n\r\n", max(0, seen - 3)) + 4
        line_end = head.find(b"\r\n")
        line = head if line_end < 0 else head[:line_end]
        size = len(head) if end == 3 else end
        self._bound(line, size)
        piece = head[self._fed : size]
        if not self._fed:
            piece = self._readable(piece)
        if end == 3:
            self._partial = head
            if piece:
                self._fed = size
                self._feed(piece)
            if self._complete:
                raise MalformedError(400, "malformed HTTP: the head ends early")
            return -1
        self._partial = b""
        self._fed = 0
        self.line = line
        self._feed(piece)
        if not self._complete or len(self.headers) > self._max_fields:
            raise self._unfit_head()
        self._complete = False
        return len(data) - (len(head) - end)

    def _bound(self, line: bytes, size: int) -> None:
        """Raise MalformedError where a head, as far as it has come, is beyond the limits."""
        if len(line.partition(b" ")[2].partition(b" ")[0]) > self._max_target:
            raise MalformedError(414, f"target longer than {self._max_target} bytes")
        if size > self._max_head:
            raise MalformedError(431, f"head longer than {self._max_head} bytes")

    def _readable(self, head: bytes) -> bytes:
        """A head's beginning with a method that llhttp knows; empty while the method's end has not come."""
        if self._make is not HttpRequestParser:
            return head
        method, space, _ = head[: MAX_METHOD + 1].partition(b" ")
        if space and method in METHODS:
            return head
        if not TOKEN.fullmatch(method):
            raise MalformedError(400, "malformed HTTP: method")
        if len(method) > MAX_METHOD:
            raise MalformedError(501, f"method longer than {MAX_METHOD} bytes")
        return b"GET" + head[len(method) :] if space else b""

    def _unfit_head(self) -> MalformedError:
        if not self._complete:
            return MalformedError(400, "malformed HTTP: the head does not end where it should")
        return MalformedError(431, f"more than {self._max_fields} header fields")

    def _renew(self) -> None:
        """Begin with a new parser: it costs microseconds, and so is left to where llhttp cannot be led on."""
        self._parser = self._make(self)
        self._stale = False

    def _feed(self, data: Slice) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            # llhttp takes what follows for a tunnel. Whether it is one is decided above this module.
            self._stale = True
        except HttpParserError as error:
            raise MalformedError(400, f"malformed HTTP: {error}") from None

    def expect(self, framing: int, announced: bool = False) -> None:
        """Say how the message of the last head is framed: its length, CHUNKED or UNTIL_CLOSE.

        `announced`: the head may name a body that does not come, as answers to HEAD do.
        Raises MalformedError where llhttp reads the head differently.
        """
        self.done = not framing
        self._mode = framing
        self._left = framing
        if self.same and framing != CHUNKED:
            self._counted = False
            return
        self._whole = self._repeatable = b""
        if not framing:
            if not self._finished:
                if not announced:
                    raise MalformedError(400, "malformed HTTP: unclear framing")
                self._stale = True
        elif framing == CHUNKED:
            self._left = 0
            self._trailing = -1
            self._count = len(self.headers)
            if self._stale or self.same:
                # llhttp does not stand behind the head: it took an upgrade for one, or has not read it again.
                self._parser = HttpRequestParser(self)
                self._parser.feed_data(_CHUNKED_HEAD)
                self.headers.pop()
                self._complete = self._finished = False
                self._stale = self._make is not HttpRequestParser
            elif self._finished:
                raise MalformedError(400, "malformed HTTP: unclear framing")
        elif self._finished and not self._stale:
            raise MalformedError(400, "malformed HTTP: unclear framing")
        self._counted = not self._stale
        if framing >= 0 and not self._stale:
            self._whole, self._repeatable = self._head, self._fields

    def body(self, data: bytes, pos: int) -> tuple[list[Slice], int]:
        """The body's parts in `data[pos:]` and the position behind them; `done` says whether that was all.

        Of many small chunks only the first are read: what is left is for a later turn. Raises MalformedError.
        """
        mode = self._mode
        if mode == CHUNKED:
            return self._chunks(data, pos)
        end = len(data)
        if mode == UNTIL_CLOSE:
            return [_cut(data, pos, end)] if end > pos else [], end
        if end - pos == self._left and not self._counted and end <= _COPY:
            self.done = True
            self._left = 0
            return [data[pos:]], end
        if end - pos >= self._left:
            end = pos + self._left
            self.done = True
        self._left -= end - pos
        part = _cut(data, pos, end)
        if self._counted:
            self._feed(part)
            if self._finished != self.done:
                raise MalformedError(400, "malformed HTTP: unclear framing")
        return [part] if part else [], end

    def _chunks(self, data: bytes, pos: int) -> tuple[list[Slice], int]:
        parts: list[Slice] = []
        size = len(data)
        view = memoryview(data)
        try:
            while pos < size and not self.done and len(parts) < MAX_PARTS:
                if self._left:  # of a chunk's data and the line end behind it
                    end = min(pos + self._left, size)
                    payload = min(end, pos + self._left - 2)
                    if payload > pos:
                        parts.append(_cut(data, pos, payload))
                    self._left -= end - pos
                else:
                    end = data.find(b"\n", pos) + 1 or size
                    self._chunk_line(data[pos:end])
                self._parser.feed_data(view[pos:end])
                pos = end
        except HttpParserError as error:
            raise MalformedError(400, f"malformed chunk: {error}") from None
        if self._finished != self.done:
            raise MalformedError(400, "malformed chunk: unclear framing")
        if self.done:
            self.trailers = self.headers[self._count :]
            del self.headers[self._count :]
            self._stale = self._stale or bool(self.trailers)  # llhttp heeds what they say of the connection
        return parts, pos

    def _chunk_line(self, piece: bytes) -> None:
        """Follow a line of the chunked framing, or a piece of one: a size, or a field of the trailers."""
        line = self._partial + piece
        trailing = self._trailing >= 0
        if len(line) + max(0, self._trailing) > (MAX_TRAILERS if trailing else MAX_CHUNK_LINE):
            raise MalformedError(431 if trailing else 400, "chunk framing too long")
        if line[-1:] != b"\n":
            self._partial = line
            return
        self._partial = b""
        if trailing:
            self._trailing += len(line)
            self.done = line == b"\r\n"
            if not self.done:
                self._stale = True  # llhttp heeds what trailers say of the connection
            return
        found = _CHUNK_SIZE.match(line)
        if found is None:
            raise MalformedError(400, "malformed chunk: size")
        length = int(found[0], 16)
        if length:
            self._left = length + 2
        else:
            self._trailing = 0

    def _on_headers_complete(self) -> None:
        self._complete = True

    def _on_message_complete(self) -> None:
        self._finished = True


def _cut(data: bytes, start: int, end: int) -> Slice:
    if not start and end == len(data):
        return data
    return data[start:end] if end - start <= _COPY else memoryview(data)[start:end]
