"""Answers rewritten, as `head` does requests."""

from http import HTTPStatus
from re import compile as regex
from typing import Final

from stickyroute_proxy.affinity.cookie import unshared
from stickyroute_proxy.changes import Fields
from stickyroute_proxy.wire.fields import (
    CACHE_CONTROL,
    CODING,
    CONNECTION,
    CONTENT_TYPE,
    DATE,
    DIGITS,
    LENGTH,
    SET_COOKIE,
    TRAILER,
    UPGRADE,
    AnswerKinds,
    may_trail,
    tokens,
)
from stickyroute_proxy.wire.parser import CHUNKED, UNTIL_CLOSE, Headers, MalformedError, Slice

_KINDS: Final = AnswerKinds()
_NONE: Final[frozenset[bytes]] = frozenset()
_NOT_NOMINATED: Final = (b"close", b"keep-alive", b"upgrade", b"cache-control", b"")
"""What Connection may name and does not end here; Cache-Control is for all (RFC 9110, section 7.6.1)."""
_TARGETED: Final = (b"cdn-cache-control", b"surrogate-control")
_STATUS: Final = regex(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_STATUS_LINES: Final = {
    b"HTTP/1.1 %d %b" % (status, status.phrase.encode()): status.value for status in HTTPStatus
}


class AnswerHead:
    """An upstream's answer as it was understood; `read` fills it, `write` puts it on the way down."""

    __slots__ = (
        "_given_cache_control",
        "_kept",
        "_line",
        "_lines",
        "_nominated",
        "_read",
        "_read_to_head",
        "_written",
        "_written_with",
        "announced",
        "body",
        "cache_control",
        "changes",
        "dated",
        "keep_alive",
        "long_lived",
        "sets_cookies",
        "status",
        "trailer",
        "trailers",
        "websocket",
    )

    status: int
    body: int
    """A length, CHUNKED or UNTIL_CLOSE."""
    announced: int | None
    """The length that the head names, also where no body comes (HEAD, 304)."""
    keep_alive: bool
    cache_control: bytes | None
    """The values of Cache-Control, joined by commas."""
    changes: Fields | None
    """The rule's that are applied; see `change`."""
    dated: bool
    """It has a Date."""
    sets_cookies: bool
    """The endpoint sets cookies in it."""
    trailer: bytes
    """The line that announces trailers, complete; empty when none are."""
    trailers: bytes
    """Complete lines; known when the body is done."""
    websocket: bool
    """101 that opens a WebSocket."""
    long_lived: bool
    """It begins a tunnel or an event stream."""

    def __init__(self) -> None:
        self._read: bytes | None = None
        self._read_to_head = False
        self._written = b""
        self._written_with: tuple[bytes, bool] | None = None
        self.changes = None

    def read(  # noqa: C901, PLR0915 - one pass
        self, line: bytes, headers: Headers, to_head: bool, same: bool = False
    ) -> None:
        """Understand a head whose fields the parser has passed.

        `to_head`: it answers HEAD; `same`: the fields are those that were read last. Raises MalformedError.
        """
        if same and line == self._read and to_head is self._read_to_head:
            return
        self._read = line
        self._read_to_head = to_head
        self._written_with = None
        status = _STATUS_LINES.get(line)
        if status is None:
            found = _STATUS.fullmatch(line)
            if found is None:
                raise MalformedError(502, "status line")
            status = int(found[1])
            http11 = line.startswith(b"HTTP/1.1")
            if status < 200 and not http11:
                raise MalformedError(502, "an interim answer of HTTP/1.0, which has none")
            line = b"HTTP/1.1 %b %b" % (found[1], found[2] or b"")
        else:
            http11 = True
        self.status = status
        self._line = line
        kept: list[bytes] = []
        self.changes = None
        self.cache_control = None
        self.dated = self.sets_cookies = False
        self.trailer = self.trailers = b""
        self._nominated = _NONE
        self.long_lived = status == 101
        connection = length = coding = upgrade = None
        for field in headers:
            kind = _KINDS[field[0]]
            if not kind:
                kept.append(b": ".join(field))
            elif kind == LENGTH:
                if length is not None:
                    raise MalformedError(502, "more than one Content-Length")
                length = field[1]
            elif kind == DATE:
                kept.append(b": ".join(field))
                self.dated = True
            elif kind == CONTENT_TYPE:
                kept.append(b": ".join(field))
                self.long_lived = field[1].lower().startswith(b"text/event-stream")
            elif kind == CACHE_CONTROL:
                kept.append(b": ".join(field))
                value = field[1]
                self.cache_control = (
                    value if self.cache_control is None else self.cache_control + b"," + value
                )
            elif kind == SET_COOKIE:
                kept.append(b": ".join(field))
                self.sets_cookies = True
            elif kind == CONNECTION:
                connection = field[1] if connection is None else connection + b"," + field[1]
            elif kind == CODING:
                if coding is not None:
                    raise MalformedError(502, "more than one Transfer-Encoding")
                coding = field[1]
            elif kind == UPGRADE:
                upgrade = field[1]
            elif kind == TRAILER:
                names = b", ".join([name for name in tokens(field[1]) if name and may_trail(name)])
                self.trailer += b"Trailer: %b\r\n" % names if names else b""
        self._read_framing(
            length, coding, http11=http11, empty=to_head or status in (204, 304) or status < 200
        )
        self.keep_alive = http11
        self.websocket = False
        if connection is not None:
            options = tokens(connection)
            self.keep_alive = b"close" not in options and (http11 or b"keep-alive" in options)
            kept = self._without_nominated(kept, options)
            self.websocket = (
                status == 101
                and b"upgrade" in options
                and upgrade is not None
                and upgrade.lower() == b"websocket"
            )
        self._kept = self._lines = kept
        self._given_cache_control = self.cache_control

    def _without_nominated(self, kept: list[bytes], options: list[bytes]) -> list[bytes]:
        """The lines but for those that Connection names."""
        named = frozenset(options).difference(_NOT_NOMINATED)
        if not named:
            return kept
        self._nominated = named
        return [entry for entry in kept if entry.partition(b":")[0].lower() not in named]

    def _read_framing(self, length: bytes | None, coding: bytes | None, *, http11: bool, empty: bool) -> None:
        if length is not None and not DIGITS.fullmatch(length):
            raise MalformedError(502, "Content-Length is not a number")
        self.announced = None if length is None else int(length)
        if coding is not None and (length is not None or coding.lower() != b"chunked" or not http11):
            raise MalformedError(502, "Transfer-Encoding other than a sole `chunked`")
        if coding is None:
            self.trailer = b""
        if empty:
            self.body = 0
        elif coding is not None:
            self.body = CHUNKED
        else:
            self.body = UNTIL_CLOSE if self.announced is None else self.announced

    def change(self, changes: Fields | None) -> None:
        """Apply a rule's changes to what was read, in the place of any other's."""
        self.changes = changes
        self._written_with = None
        if changes is None:
            self._lines, self.cache_control = self._kept, self._given_cache_control
            return
        self._lines = changes.apply(self._kept)
        if self._lines is self._kept:
            self.cache_control = self._given_cache_control
            return
        pairs = [line.partition(b":") for line in self._lines]
        given = [value.strip(b" \t") for name, _, value in pairs if name.lower() == b"cache-control"]
        self.cache_control = b",".join(given) if given else None

    @property
    def given(self) -> list[bytes]:
        """The fields that the endpoint gave, those for this connection alone left out."""
        return self._kept

    @property
    def lines(self) -> list[bytes]:
        """The fields that go down, but for those that are ours."""
        return self._lines

    def replace(self, lines: list[bytes]) -> None:
        """Let these fields go down in their place, in this answer alone."""
        self._lines = lines
        self._written_with = self._read = None

    def targets_caches(self) -> bool:
        """Whether it lets caches of a kind keep it, whatever Cache-Control says to the others (RFC 9213)."""
        return any(map(_targets_caches, self._lines))

    def leave_caches(self) -> None:
        """Take out what lets shared caches keep it; what else is said to them and to browsers stays."""
        kept = []
        for line in self._lines:
            name, _, value = line.partition(b":")
            if name.lower() == b"cache-control" and (left := unshared(value)) != value.strip(b" \t"):
                line = b"%b: %b" % (name, left) if left else b""  # noqa: PLW2901
            if line and not _targets_caches(line):
                kept.append(line)
        self.replace(kept)

    def take_trailers(self, trailers: Headers) -> None:
        """Keep of the fields behind the body those that may go on."""
        kept = [
            b"%b: %b\r\n" % field
            for field in trailers
            if may_trail(field[0]) and field[0].lower() not in self._nominated
        ]
        self.trailers = b"".join(kept)

    def write(self, extra: bytes, chunked: bool) -> bytes:
        """The head that goes down. `extra`: further complete lines; `chunked`: how the body will go."""
        written_with = (extra, chunked)
        if written_with == self._written_with:
            return self._written
        lines = [self._line, *self._lines]
        if chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif self.announced is not None and self.status >= 200 and self.status != 204:
            lines.append(b"Content-Length: %d" % self.announced)
        if self.websocket:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        lines.append(extra + b"\r\n")
        self._written = b"\r\n".join(lines)
        self._written_with = written_with
        return self._written


def _targets_caches(line: bytes) -> bool:
    name, _, value = line.lower().partition(b":")
    return name.endswith(_TARGETED) and b"no-store" not in value and b"private" not in value


def chunk(parts: list[Slice], *, last: bool, trailers: bytes = b"") -> list[Slice]:
    """Body parts as one chunk; behind the last of them the end of the body. `trailers`: complete lines."""
    size = sum(map(len, parts))
    framed: list[Slice] = [b"%x\r\n" % size, *parts, b"\r\n"] if size else []
    if last:
        framed.append(b"0\r\n%b\r\n" % trailers if trailers else b"0\r\n\r\n")
    return framed
