"""Requests rewritten: what of a head is understood here, what goes on, what is replaced. Answers: `answer`.

Heads are written anew in both directions. A field that means nothing to a proxy goes on as it came, in its
order; framing, hop-by-hop and forwarding fields are ours. Nothing here knows sockets.
"""

from functools import lru_cache
from re import compile as regex
from typing import Any, Final

from stickyroute_proxy.affinity.carrier import Carrier
from stickyroute_proxy.affinity.keys import Bound, presented
from stickyroute_proxy.changes import UNCHANGED, Changes
from stickyroute_proxy.fieldname import plain
from stickyroute_proxy.wire.fields import (
    CODING,
    CONNECTION,
    COOKIE,
    DIGITS,
    EXPECT,
    FORWARDED,
    HOPS,
    HOST,
    ID,
    LENGTH,
    NOTICE,
    TE,
    UPGRADE,
    Kinds,
    tokens,
)
from stickyroute_proxy.wire.parser import (
    CHUNKED,
    MAX_METHOD,
    METHODS,
    TOKEN,
    Headers,
    MalformedError,
)

_REFUSED: Final = frozenset((b"CONNECT", b"TRACE"))
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))

_AUTHORITY: Final = regex(
    rb"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE: Final = regex(rb"(?i:https?)://([^/?]*)([^#]*)")
_TARGET: Final = bytes(byte if 0x21 <= byte <= 0x7E and byte != ord("#") else ord("!") for byte in range(256))
"""What a target may hold, each byte as itself; the others as another."""
_REQUEST_ID: Final = regex(rb"[\x21-\x7e]{1,128}")


class RequestHead:
    """A client's request as it was understood; `read` fills it, `write` puts it on the way upstream."""

    __slots__ = (
        "_given_id",
        "_in_origin_form",
        "_kept",
        "_kinds",
        "_line",
        "_notices",
        "_presented",
        "_presented_of",
        "_tail",
        "_tail_of",
        "_version",
        "address",
        "authority",
        "body",
        "bound",
        "cookies",
        "expect",
        "forwarded",
        "headers",
        "host",
        "http11",
        "keep_alive",
        "method",
        "path",
        "query",
        "record",
        "request_id",
        "secure",
        "target",
        "told",
        "trailers",
        "websocket",
    )

    address: str
    """The client's; whoever accepts its connection says it."""
    method: bytes
    target: bytes
    """As it goes upstream: origin form, or `*`."""
    path: bytes
    query: bytes
    authority: bytes
    """As it goes upstream in Host; empty for an HTTP/1.0 client that named none."""
    host: bytes
    """Lower case, without port."""
    headers: Headers
    cookies: list[bytes]
    """The values of the Cookie fields."""
    body: int
    """A length or CHUNKED."""
    http11: bool
    keep_alive: bool
    """Whether the client lets the connection live on."""
    expect: bool
    """The client awaits 100 before it sends the body."""
    trailers: bool
    """The client takes fields behind the answer's body."""
    websocket: bool
    """A well-formed request for a WebSocket."""
    forwarded: Headers | None
    """The client's own forwarding fields: the same list while the fields are the same."""
    secure: bool
    """The client came by TLS; known where the access log asks."""
    record: Any
    """Where the access log notes what becomes of the request; None: it has not been on yet."""
    told: bytes
    """What the access log has made of the fields; empty: nothing yet."""
    request_id: bytes
    """The client's own; empty when it sent none that can be used, until it is given one."""

    def __init__(self) -> None:
        self.address = ""
        self.request_id = self._given_id = b""
        self.method = self._version = self._line = b""
        self._in_origin_form = False
        self._kinds: Kinds | None = None
        self._presented: list[bytes] = []
        self._presented_of = b""
        self._tail = b""
        self._tail_of: tuple[object, ...] = ()
        self.bound: Bound = b"", b"", None
        self.record = None

    def read(  # noqa: C901, PLR0915 - one pass
        self, line: bytes, headers: Headers, kinds: Kinds, same: bool = False
    ) -> None:
        """Understand a head whose fields the parser has passed; `same`: they are those that were read last.

        Raises MalformedError.
        """
        if same and line == self._line and kinds is self._kinds:
            self.request_id = self._given_id
            return
        self._line = line
        parts = line.split(b" ")
        if len(parts) != 3:
            raise MalformedError(400, "request line is not: method, target, version")
        method, target, version = parts
        if target.translate(_TARGET) != target:
            raise MalformedError(400, "target holds a character that has to be escaped")
        if (
            same
            and method == self.method
            and version == self._version
            and self._in_origin_form
            and target[:1] == b"/"
            and kinds is self._kinds
        ):
            self.request_id = self._given_id
            self.target = target
            self.path, _, self.query = target.partition(b"?")
            return
        http11 = version == b"HTTP/1.1"
        if not http11 and version != b"HTTP/1.0":
            raise MalformedError(505, "HTTP version is not served; use HTTP/1.1")
        if method in _REFUSED:
            raise MalformedError(405, "CONNECT and TRACE are not served")
        if method not in METHODS and not (TOKEN.fullmatch(method) and len(method) <= MAX_METHOD):
            raise MalformedError(400, f"method is not a token of at most {MAX_METHOD} bytes")
        self.method = method
        self._version = version
        self._in_origin_form = target[:1] == b"/"
        self._kinds = kinds
        self._presented_of = b""
        self._tail_of = ()
        self.told = b""
        self.http11 = http11
        self.headers = headers
        self.cookies = []
        self.request_id = self._given_id = b""
        self.expect = self.trailers = self.websocket = False
        kept: list[bytes] = []
        self._kept = kept
        self._notices: Headers | None = None
        self.forwarded = None
        authority = connection = length = coding = upgrade = None
        for field in headers:
            kind = kinds[field[0]]
            if not kind:
                kept.append(b": ".join(field))
            elif kind == COOKIE:
                self.cookies.append(field[1])
            elif kind == HOST:
                if authority is not None:
                    raise MalformedError(400, "more than one Host")
                authority = field[1]
            elif kind == CONNECTION:
                connection = field[1] if connection is None else connection + b"," + field[1]
            elif kind == LENGTH:
                if length is not None:
                    raise MalformedError(400, "more than one Content-Length")
                length = field[1]
            elif kind == CODING:
                if coding is not None:
                    raise MalformedError(400, "more than one Transfer-Encoding")
                coding = field[1]
            elif kind == UPGRADE:
                upgrade = field[1] if upgrade is None else upgrade + b"," + field[1]
            elif kind == EXPECT:
                if field[1].lower() != b"100-continue":
                    raise MalformedError(417, "Expect is not served but for 100-continue")
                self.expect = http11
            elif kind == ID:
                if _REQUEST_ID.fullmatch(field[1]):
                    self.request_id = self._given_id = field[1]
            elif kind == FORWARDED:
                self.forwarded = [*(self.forwarded or ()), field]
            elif kind == NOTICE:
                self._notices = [*(self._notices or ()), field]
            elif kind == HOPS:
                kept.append(b": ".join(field) if method != b"OPTIONS" else _one_hop_less(field))
            elif kind == TE:
                self.trailers = self.trailers or (http11 and b"trailers" in tokens(field[1]))
        if target[:1] != b"/":
            target, authority = self._read_target(target, authority)
        self.target = target
        path, _, self.query = target.partition(b"?")
        self.path = b"/" if path == b"*" else path
        if authority is not None:
            self.authority = authority
            self.host = _host(authority)
        elif http11:
            raise MalformedError(400, "no Host")
        else:
            self.authority = self.host = b""
        if length is None and coding is None:
            self.body = 0
        else:
            self._read_framing(length, coding)
        if not self.body:
            self.expect = False
        self.keep_alive = http11
        if connection is not None:
            options = tokens(connection)
            self.keep_alive = b"close" not in options and (http11 or b"keep-alive" in options)
            if b"upgrade" in options and upgrade is not None and upgrade.lower() == b"websocket":
                if self.body:
                    raise MalformedError(400, "a request for a WebSocket has no body")
                self.websocket = method == b"GET" and http11
            self._remove_nominated(options)

    def _read_target(self, target: bytes, authority: bytes | None) -> tuple[bytes, bytes | None]:
        """A target that is no path, and the authority that goes with it."""
        if target == b"*" and self.method == b"OPTIONS":
            return target, authority
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise MalformedError(400, "target is neither a path nor a URL")
        if authority is not None:
            _host(authority)  # even an overruled Host has to be one
        elif self.http11:
            raise MalformedError(400, "no Host")
        authority, rest = absolute.groups()
        if not rest and self.method == b"OPTIONS":
            return b"*", authority  # the server as a whole (RFC 9112, section 3.2.4)
        return rest if rest[:1] == b"/" else b"/" + rest, authority

    def _read_framing(self, length: bytes | None, coding: bytes | None) -> None:
        if coding is not None:
            if length is not None or coding.lower() != b"chunked" or not self.http11:
                raise MalformedError(400, "framing: Transfer-Encoding other than a sole `chunked`")
            self.body = CHUNKED
        elif length is not None and DIGITS.fullmatch(length):
            self.body = int(length)
        else:
            raise MalformedError(400, "framing: Content-Length is not a number")

    def _remove_nominated(self, options: list[bytes]) -> None:
        """Drop what Connection names, but for Host, Cookie and what is ours: they are not in `_kept`."""
        named = set(options).difference((b"close", b"keep-alive", b"upgrade", b""))
        if named:
            self._kept = [line for line in self._kept if line.partition(b":")[0].lower() not in named]
            if self._notices is not None:
                self._notices = [field for field in self._notices if field[0].lower() not in named]
            if b"x-request-id" in named:
                self.request_id = self._given_id = b""

    def values(self, name: bytes) -> list[bytes]:
        """The values of the fields of that lower-case name."""
        return [value for key, value in self.headers if key.lower() == name]

    def field(self, name: bytes) -> bytes:
        """The values of a field, by its lower-case name, joined by commas; empty when there is none."""
        return b", ".join(self.values(name))

    def presented(self, prefix: bytes) -> list[bytes]:
        """The values of the cookies that start with `prefix`; looked for once while fields are the same."""
        if prefix != self._presented_of:
            self._presented = presented(self.cookies, prefix)
            self._presented_of = prefix
        return self._presented

    def write(  # noqa: PLR0917 - keywords cost time on each request
        self,
        authority: bytes,
        carrier: Carrier,
        notify: bytes,
        notice: bytes | None,
        forwarding: bytes,
        changes: Changes = UNCHANGED,
    ) -> bytes:
        """The head that goes upstream.

        `authority`: for Host. `carrier`: the scope's, which says what of its keys goes further.
        `notify`: the rule's notice header in lower case, which no client can send; `notice` is its value.
        `forwarding`: the forwarding fields, complete lines. `changes`: the rule's.
        """
        of: tuple[object, ...] = (authority, carrier, notify, notice, forwarding, changes)
        if of != self._tail_of:
            told = b"" if notice is None else b"%b: %b\r\n" % (notify, notice)
            tail = self._write_tail(authority, carrier, notify, forwarding, changes=changes)
            self._tail = b" HTTP/1.1\r\n%b%bX-Request-Id: " % (tail, told)
            self._tail_of = of
        target = self.target if changes.path is None else changes.path.target(self.target)
        return b"".join((self.method, b" ", target, self._tail, self.request_id, b"\r\n\r\n"))

    def _write_tail(
        self, authority: bytes, carrier: Carrier, notify: bytes, forwarding: bytes, *, changes: Changes
    ) -> bytes:
        """What follows the first line and is the same while the fields are."""
        kept = carrier.up_fields(self._kept)
        if self._notices is not None:
            notices = [field for field in self._notices if plain(field[0]) != plain(notify)]
            kept = [*kept, *map(b": ".join, notices)]
        if changes.request is not None:
            kept = changes.request.apply(kept)
        lines = [b"Host: " + (changes.host or authority), *kept]
        for value in self.cookies:
            rest = carrier.up_cookie(value)
            if rest is not None:
                lines.append(b"Cookie: " + rest)
        body = self.body
        if body > 0 or (not body and self.method in (b"POST", b"PUT", b"PATCH")):
            lines.append(b"Content-Length: %d" % body)
        elif body:
            lines.append(b"Transfer-Encoding: chunked")
        if self.expect:
            lines.append(b"Expect: 100-continue")
        if self.websocket:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        elif self.trailers:
            lines.append(b"Connection: TE\r\nTE: trailers")
        lines.append(forwarding)
        return b"\r\n".join(lines)


def _one_hop_less(field: tuple[bytes, bytes]) -> bytes:
    """The line of Max-Forwards that goes on with OPTIONS (RFC 9110, section 7.6.2).

    Raises MalformedError with 200 where the client asks us: we are the last that may answer.
    """
    name, value = field
    if not DIGITS.fullmatch(value):
        return b": ".join(field)  # whatever it is, it limits nothing
    if not int(value):
        raise MalformedError(200, "this proxy answers, as Max-Forwards is 0")
    return b"%b: %d" % (name, int(value) - 1)


@lru_cache(maxsize=1024)
def _host(authority: bytes) -> bytes:
    """An authority's host as tables know it: lower case, no port, no trailing dot. Raises MalformedError."""
    found = _AUTHORITY.fullmatch(authority) if len(authority) <= 261 else None
    if found is None or int(found[2] or 0) > 65535:
        raise MalformedError(400, "Host is not a host name")
    return found[1].lower().removesuffix(b".")
