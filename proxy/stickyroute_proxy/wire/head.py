"""Requests rewritten: what of a head is understood here, what goes on, what is replaced. Answers: `answer`.

Heads are written anew in both directions. A field that means nothing to a proxy goes on as it came, in its
order; framing, hop-by-hop and forwarding fields are ours. Nothing here knows sockets.
"""

from functools import lru_cache
from re import compile as regex
from typing import Final

from stickyroute_proxy.affinity.cookie import strip
from stickyroute_proxy.wire.parser import CHUNKED, Headers, MalformedError

# What a field is to us. 0 is everything else: it goes on untouched.
DROP, _HOST, LENGTH, CODING, CONNECTION, UPGRADE, _COOKIE, _EXPECT, _ID, _FORWARDED, _NOTICE = range(1, 12)

_REQUEST_KINDS: Final = {
    b"host": _HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"cookie": _COOKIE,
    b"expect": _EXPECT,
    b"x-request-id": _ID,
    b"forwarded": _FORWARDED,
    b"x-real-ip": _FORWARDED,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authorization": DROP,
    b"te": DROP,
    b"trailer": DROP,
    b"http2-settings": DROP,
}
_REMEMBERED: Final = 4096
"""How many spellings of field names a `Kinds` remembers."""

_METHODS: Final = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY"
    b" OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SUBSCRIBE UNBIND UNLINK"
    b" UNLOCK UNSUBSCRIBE".split()
)
"""The methods llhttp knows, but CONNECT, TRACE and those of other protocols."""
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))

_AUTHORITY: Final = regex(
    rb"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE: Final = regex(rb"(?i:https?)://([^/?]*)([^#]*)")
_TARGET: Final = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
"""The bytes that a target may hold."""
_REQUEST_ID: Final = regex(rb"[\x21-\x7e]{1,128}")
DIGITS: Final = regex(rb"[0-9]{1,18}")


class Kinds(dict[bytes, int]):
    """What each field name of requests is to us, by its spelling; learns spellings as they come.

    `notices`: the rules' notice headers in lower case. Which of them a request loses depends on its rule.
    """

    def __init__(
        self, notices: frozenset[bytes] = frozenset(), known: dict[bytes, int] | None = None
    ) -> None:
        super().__init__()
        self.notices = notices
        self._known = _REQUEST_KINDS if known is None else known

    def __missing__(self, name: bytes) -> int:
        lower = name.lower()
        kind = self._known.get(lower, 0)
        plain = lower.replace(b"_", b"-")
        if not kind and self._known is _REQUEST_KINDS:
            if plain.startswith(b"x-forwarded-"):
                # Applications read X_Forwarded_For as X-Forwarded-For: such aliases are dropped.
                kind = _FORWARDED if plain == lower else DROP
            elif plain in self.notices:
                kind = _NOTICE
            elif plain in self._known:
                kind = DROP
        if len(self) < _REMEMBERED:
            self[name] = kind
        return kind


class RequestHead:
    """A client's request as it was understood; `read` fills it, `write` puts it on the way upstream."""

    __slots__ = (
        "_forwarded",
        "_given_id",
        "_in_origin_form",
        "_kept",
        "_kinds",
        "_notices",
        "_tail",
        "_tail_of",
        "_version",
        "address",
        "authority",
        "body",
        "cookies",
        "expect",
        "headers",
        "host",
        "http11",
        "keep_alive",
        "method",
        "path",
        "query",
        "request_id",
        "target",
        "told",
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
    websocket: bool
    """A well-formed request for a WebSocket."""
    told: str
    """What the access log has made of the fields; empty: nothing yet."""
    request_id: bytes
    """The client's own; empty when it sent none that can be used, until it is given one."""

    def __init__(self) -> None:
        self.address = ""
        self.request_id = self._given_id = b""
        self.method = self._version = b""
        self._in_origin_form = False
        self._kinds: Kinds | None = None
        self._tail = b""
        self._tail_of: tuple[bytes, ...] = ()

    def read(  # noqa: C901, PLR0915 - one pass
        self, line: bytes, headers: Headers, kinds: Kinds, *, same: bool = False
    ) -> None:
        """Understand a head whose fields the parser has passed; `same`: they are those that were read last.

        Raises MalformedError.
        """
        parts = line.split(b" ")
        if len(parts) != 3:
            raise MalformedError(400, "request line is not: method, target, version")
        method, target, version = parts
        if target.translate(None, _TARGET):
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
        if method not in _METHODS:
            raise MalformedError(405 if method in (b"TRACE", b"CONNECT") else 501, "method is not served")
        self.method = method
        self._version = version
        self._in_origin_form = target[:1] == b"/"
        self._kinds = kinds
        self._tail_of = ()
        self.told = ""
        self.http11 = http11
        self.headers = headers
        self.cookies = []
        self.request_id = self._given_id = b""
        self.expect = self.websocket = False
        kept: list[bytes] = []
        self._kept = kept
        self._notices: Headers | None = None
        self._forwarded: Headers | None = None
        authority = connection = length = coding = upgrade = None
        for field in headers:
            kind = kinds[field[0]]
            if not kind:
                kept.append(b": ".join(field))
            elif kind == _COOKIE:
                self.cookies.append(field[1])
            elif kind == _HOST:
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
            elif kind == _EXPECT:
                if field[1].lower() != b"100-continue":
                    raise MalformedError(417, "Expect is not served but for 100-continue")
                self.expect = http11
            elif kind == _ID:
                if _REQUEST_ID.fullmatch(field[1]):
                    self.request_id = self._given_id = field[1]
            elif kind == _FORWARDED:
                self._forwarded = [*(self._forwarded or ()), field]
            elif kind == _NOTICE:
                self._notices = [*(self._notices or ()), field]
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
        self.keep_alive = http11
        if connection is not None:
            tokens = [token.strip(b" \t") for token in connection.lower().split(b",")]
            self.keep_alive = b"close" not in tokens and (http11 or b"keep-alive" in tokens)
            if b"upgrade" in tokens and upgrade is not None and upgrade.lower() == b"websocket":
                if self.body:
                    raise MalformedError(400, "a request for a WebSocket has no body")
                self.websocket = method == b"GET" and http11
            self._remove_nominated(tokens)

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

    def _remove_nominated(self, tokens: list[bytes]) -> None:
        """Drop what Connection names, but for Host, Cookie and what is ours: they are not in `_kept`."""
        named = set(tokens).difference((b"close", b"keep-alive", b"upgrade", b""))
        if named:
            self._kept = [line for line in self._kept if line.partition(b":")[0].lower() not in named]
            if b"x-request-id" in named:
                self.request_id = self._given_id = b""

    def field(self, name: bytes) -> bytes:
        """The values of a field, by its lower-case name, joined by commas; empty when there is none."""
        return b", ".join([value for key, value in self.headers if key.lower() == name])

    def write(
        self, authority: bytes, cookie: bytes, notify: bytes, notice: bytes | None, forwarding: bytes
    ) -> bytes:
        """The head that goes upstream.

        `authority`: for Host. `cookie`: the name of our cookie, which goes no further; empty: none.
        `notify`: the rule's notice header in lower case, which no client can send; `notice` is its value.
        `forwarding`: the forwarding fields, complete lines.
        """
        of = (authority, cookie, notify, forwarding)
        if of != self._tail_of:
            self._tail = self._write_tail(*of)
            self._tail_of = of
        told = b"" if notice is None else b"%b: %b\r\n" % (notify, notice)
        return b"%b %b HTTP/1.1\r\n%b%bX-Request-Id: %b\r\n\r\n" % (
            self.method,
            self.target,
            self._tail,
            told,
            self.request_id,
        )

    def _write_tail(self, authority: bytes, cookie: bytes, notify: bytes, forwarding: bytes) -> bytes:
        """What follows the first line and is the same while the fields are."""
        lines = [b"Host: " + authority, *self._kept]
        for value in self.cookies:
            rest = strip(value, cookie) if cookie else value
            if rest is not None:
                lines.append(b"Cookie: " + rest)
        if self._notices is not None:
            lines += [b": ".join(field) for field in self._notices if _plain(field[0]) != _plain(notify)]
        body = self.body
        if body > 0 or (not body and self.method in (b"POST", b"PUT", b"PATCH")):
            lines.append(b"Content-Length: %d" % body)
        elif body:
            lines.append(b"Transfer-Encoding: chunked")
        if self.expect and body:
            lines.append(b"Expect: 100-continue")
        if self.websocket:
            lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
        lines.append(forwarding)
        return b"\r\n".join(lines)

    def forwarding(self, peer: str, *, scheme: bytes, trusted: bool, authority: bytes) -> bytes:
        """The forwarding fields, complete lines, for a client at `peer`; a trusted one's own go on."""
        given = dict[bytes, bytes]()
        if trusted:
            for name, value in self._forwarded or ():
                key = name.lower()
                given[key] = given[key] + b", " + value if key in given else value
        address = peer.encode()
        node = b'"[%b]"' % address if b":" in address else address
        element = b'for=%b;host="%b";proto=%b' % (node, authority, scheme)
        ours = {b"x-forwarded-for": address, b"forwarded": element}
        for name, value in ours.items():
            given[name] = given[name] + b", " + value if name in given else value
        given.setdefault(b"x-forwarded-proto", scheme)
        given.setdefault(b"x-forwarded-host", authority)
        return b"".join([b"%b: %b\r\n" % item for item in given.items()])

    @property
    def forwards(self) -> bool:
        """Whether the client sent forwarding fields of its own."""
        return self._forwarded is not None


@lru_cache(maxsize=1024)
def _host(authority: bytes) -> bytes:
    """An authority's host as tables know it: lower case, no port, no trailing dot. Raises MalformedError."""
    found = _AUTHORITY.fullmatch(authority) if len(authority) <= 261 else None
    if found is None or int(found[2] or 0) > 65535:
        raise MalformedError(400, "Host is not a host name")
    return found[1].lower().removesuffix(b".")


def _plain(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")
