"""What a rule changes in requests and answers, compiled: fields, the path, the host; and redirects.

Names and meaning are those of HTTPRoute's filters (Gateway API). What does not depend on the request is done
when a table is built. Fields of answers are changed in what endpoints answer; answers of the proxy's own stay
as they are.
"""

from collections.abc import Sequence
from re import compile as regex
from typing import Final

from stickyroute_api import changes, snapshot
from stickyroute_api.guarded import guarded
from stickyroute_proxy.fieldname import plain

_TOKEN: Final = regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = regex(r"(?![ \t])[\t\x20-\x7e\x80-\U0010ffff]*(?<![ \t])")
_HOSTNAME: Final = regex(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PATH: Final = regex(r"/[!-\"$->@-~]*")
"""Visible ASCII but for what ends a path: `?` and `#`."""

_CHALLENGE: Final = b"/.well-known/acme-challenge/"
_PORTS: Final = {b"http": b"80", b"https": b"443"}


class Fields:
    """Fields that go, and fields that come in their place or beside others."""

    __slots__ = ("_added", "_gone", "_read")

    def __init__(
        self,
        given: changes.HeaderChanges,
        ours: str = "",
        *,
        removes: Sequence[str] = (),
        aliases: bool = False,
    ) -> None:
        """`ours`: the name of a field that no rule changes; `removes`: names of fields that go besides.

        `aliases`: names that applications take for one that goes, as `X_Env` for `X-Env`, go as well.
        """
        read = self._read = plain if aliases else bytes.lower
        own = plain(ours.encode())
        names = (*given.remove, *(name for name, _ in given.set))
        added = (*given.set, *given.add)
        gone = (*removes, *(name for name in names if plain(name.encode()) != own))
        self._gone = frozenset(read(name.encode()) for name in gone)
        self._added = [f"{name}: {value}".encode() for name, value in added if plain(name.encode()) != own]

    def apply(self, lines: list[bytes]) -> list[bytes]:
        """The lines of a head's fields, changed; the same ones where there is nothing to change."""
        gone, read = self._gone, self._read
        kept = [line for line in lines if read(line.partition(b":")[0]) not in gone]
        return kept + self._added if self._added or len(kept) != len(lines) else lines


class Path:
    """A path that becomes another; the query stays."""

    __slots__ = ("_prefixes", "_value")

    def __init__(self, given: changes.PathChange, matches: Sequence[snapshot.Match]) -> None:
        """`matches`: the rule's. Raises ValueError."""
        self._value = given.value.encode()
        self._prefixes: list[bytes] | None = None
        if given.type == "ReplaceFullPath":
            if not _PATH.fullmatch(given.value):
                raise ValueError(f"path.value: {given.value!r} is not a path from / on, without ? and #")
            return
        if given.value and not _PATH.fullmatch(given.value):
            raise ValueError(f"path.value: {given.value!r} is neither empty nor a path that starts with /")
        if any(match.path_type != "PathPrefix" for match in matches):
            raise ValueError("path.type: ReplacePrefixMatch needs matches of type PathPrefix")
        self._value = self._value.rstrip(b"/")
        found = {match.path.rstrip("/").encode() for match in matches}
        self._prefixes = sorted(found, key=len, reverse=True)

    def target(self, target: bytes) -> bytes:
        """The target with its path changed; `*` stays."""
        path, mark, query = target.partition(b"?")
        if path == b"*":
            return target
        return self._changed(path) + mark + query

    def _changed(self, path: bytes) -> bytes:
        if self._prefixes is None:
            return self._value
        # The longest of the rule's prefixes that the path lies under. Whether either ends in / means nothing.
        for prefix in self._prefixes:
            rest = path[len(prefix) :]
            if path.startswith(prefix) and rest[:1] in (b"", b"/"):
                return self._value + rest or b"/"
        return path


class Redirect:
    """Where a client is sent; what is not given stays as the client asked for it."""

    __slots__ = ("_host", "_path", "_port", "_scheme", "status")

    status: int

    def __init__(self, given: changes.Redirect, matches: Sequence[snapshot.Match]) -> None:
        """Raises ValueError."""
        self.status = given.status
        self._scheme = given.scheme.encode()
        self._host = _hostname(given.hostname)
        self._port = b"%d" % given.port if given.port else b""
        self._path = None if given.path is None else Path(given.path, matches)

    def location(self, scheme: bytes, host: bytes, authority: bytes, target: bytes) -> bytes:
        """The URL for a client that asked so; empty when neither side names a host.

        `host`: the authority's, without port.
        """
        host = self._host or host
        if not host:
            return b""
        port = self._port
        if not port and not self._scheme:
            port = authority.rpartition(b":")[2] if not authority.endswith(b"]") else b""
            port = port if port.isdigit() else b""
        scheme = self._scheme or scheme
        if port and port != _PORTS[scheme]:
            host = b"%b:%b" % (host, port)
        if target[:1] == b"*":
            target = b"/"
        return b"%b://%b%b" % (scheme, host, target if self._path is None else self._path.target(target))


class Changes:
    """All of one rule."""

    __slots__ = ("_redirect", "_to_https", "answer", "host", "path", "redirects", "request")

    request: Fields | None
    """Fields of requests."""
    answer: Fields | None
    """Fields of endpoints' answers."""
    host: bytes
    """What endpoints see in Host; empty: what the client asked for."""
    path: Path | None
    """What endpoints see as the path."""
    redirects: bool
    """Whether `redirect` can say anything."""

    def __init__(
        self,
        given: changes.Changes = changes.Changes(),  # noqa: B008 - it is immutable
        matches: Sequence[snapshot.Match] = (),
        *,
        to_https: bool = False,
        notify_header: str = "",
        token_header: str = "",
    ) -> None:
        """`token_header`: the field of answers that carries our token. Raises ValueError naming the field."""
        _check(given.request_headers, "request")
        _check(given.response_headers, "response")
        # Only the proxy tells of a lost session, under whatever name the route has chosen for it.
        self.request = _fields(given.request_headers, notify_header, aliases=True)
        if token_header:
            self.answer = Fields(given.response_headers, token_header, removes=(token_header,))
        else:
            self.answer = _fields(given.response_headers)
        rewrite = given.rewrite or changes.Rewrite()
        self.host = _hostname(rewrite.hostname)
        self.path = None if rewrite.path is None else Path(rewrite.path, matches)
        self._redirect = None if given.redirect is None else Redirect(given.redirect, matches)
        self._to_https = to_https
        self.redirects = to_https or self._redirect is not None

    def redirect(self, scheme: bytes, path: bytes) -> Redirect | None:
        """Where a request is sent that came by `scheme`; None: to an endpoint.

        HTTPS comes first. Who proves by HTTP that the host is theirs (RFC 8555) is not sent there.
        """
        if self._to_https and scheme == b"http" and not path.startswith(_CHALLENGE):
            return _TO_HTTPS
        return self._redirect


def _fields(given: changes.HeaderChanges, ours: str = "", *, aliases: bool = False) -> Fields | None:
    return Fields(given, ours, aliases=aliases) if given.set or given.add or given.remove else None


def _hostname(given: str) -> bytes:
    if given and not _HOSTNAME.fullmatch(given):
        raise ValueError(f"hostname: {given!r} is not a host name")
    return given.encode()


def _check(given: changes.HeaderChanges, of: str) -> None:
    """ValueError for what would break a head, or say what only the proxy says."""
    for name in (*given.remove, *(name for name, _ in (*given.set, *given.add))):
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{of}_headers: {name!r} is not a header name")
        if guarded(name):
            raise ValueError(f"{of}_headers: {name} is the proxy's own and cannot be changed")
    for name, value in (*given.set, *given.add):
        if not _VALUE.fullmatch(value):
            raise ValueError(f"{of}_headers: the value of {name} holds a character that a header cannot")


# 308 keeps method and body, and every client of the last ten years knows it. No port: the scheme's own. A
# fleet that clients reach by HTTPS at another port would name it here.
_TO_HTTPS: Final = Redirect(changes.Redirect(scheme="https", status=308), ())
UNCHANGED: Final = Changes()
"""Of rules that change nothing."""


def compiled(rule: snapshot.Rule, *, to_https: bool) -> Changes:
    """The changes of a rule. Raises ValueError naming the field."""
    given, policy = rule.changes, rule.persistence
    token_header = policy.name if policy.type == "Header" and policy.learn is None else ""
    if not to_https and not token_header and given == changes.Changes():
        return UNCHANGED
    notice = policy.failover.notify_header
    try:
        return Changes(
            given, rule.matches, to_https=to_https, notify_header=notice, token_header=token_header
        )
    except ValueError as error:
        raise ValueError(f"changes.{error}") from error
