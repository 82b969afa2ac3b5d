"""Which rule a request belongs to, in Gateway API's order.

Of all rules that match a request the most specific host wins: the exact one, then the longest wildcard, then
any host. A host whose rules do not match does not shadow the less specific ones: Gateway API orders the rules
that match, it does not choose a host first. Between rules of one host: an exact path, the longest regular
expression, the longest prefix; then a method; then more headers; then more query parameters; then the older
route, the route's name, and the order within it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from stickyroute_api import snapshot
from stickyroute_proxy.affinity.keys import decoded
from stickyroute_proxy.affinity.rule import Rule

Headers = list[tuple[bytes, bytes]]

_PATH_RANK: Final = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}
"""Gateway API leaves regular expressions open: before prefixes, or a rule for `/` would shadow them all."""


class Value:
    """A value that a header or query parameter must have."""

    __slots__ = ("fits", "name")

    name: bytes
    fits: Callable[[bytes], object]

    def __init__(self, given: snapshot.HeaderMatch, name: str) -> None:
        self.name = name.encode()
        self.fits = compiled(given.value) if given.regex else given.value.encode().__eq__


class Match:
    """One compiled way in which a request fits a rule."""

    __slots__ = (
        "always",
        "exact",
        "headers",
        "method",
        "params",
        "pattern",
        "prefix",
        "rank",
        "span",
        "subtree",
    )

    always: bool
    """Every request fits."""
    rank: tuple[int, ...]
    """The order among matches of one host: smaller first."""

    def __init__(self, given: snapshot.Match) -> None:
        """Raises ValueError naming the part that cannot be compiled."""
        path = given.path
        self.exact: bytes | None = None
        self.prefix: bytes | None = None
        self.subtree = b""
        self.span = slice(0)
        self.pattern: Callable[[bytes], object] | None = None
        if given.path_type == "Exact":
            self.exact = path.encode()
        elif given.path_type == "PathPrefix":
            path = path.rstrip("/")
            self.prefix = path.encode()
            self.subtree = self.prefix + b"/"
            self.span = slice(len(self.subtree))
        else:
            self.pattern = _named("path", path)
        self.method = given.method.encode()
        self.headers = tuple(_value("headers", header, header.name.lower()) for header in given.headers)
        self.params = tuple(_value("queryParams", param, param.name) for param in given.query_params)
        self.always = self.prefix == b"" and not (self.method or self.headers or self.params)
        self.rank = (
            _PATH_RANK[given.path_type],
            -len(path),
            not self.method,
            -len(self.headers),
            -len(self.params),
        )

    def fits(self, path: bytes, query: bytes, method: bytes, headers: Headers) -> bool:
        """Whether the request fits in all parts."""
        if self.prefix is not None:
            # A slice, as `startswith` takes its arguments in a way that costs more than the look.
            if self.prefix and path[self.span] != self.subtree and path != self.prefix:
                return False
        elif self.exact is not None:
            if path != self.exact:
                return False
        elif self.pattern is not None and not self.pattern(path):
            return False
        if self.method and method != self.method:
            return False
        if self.headers and not _has_headers(headers, self.headers):
            return False
        return not self.params or _has_params(query, self.params)


class Entry:
    """A match of a rule under one host."""

    __slots__ = ("match", "order", "rule")

    def __init__(self, match: Match, rule: Rule, order: tuple[object, ...]) -> None:
        self.match = match
        self.rule = rule
        self.order = order
        """The whole order: the match's rank, then age, name and position."""


class Host:
    """The entries of one host, best first, and the next less specific host."""

    __slots__ = ("broader", "catch_all", "entries")

    catch_all: Rule | None
    """Of what no entry fits; entries behind its own are none."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.broader: Host | None = None
        self.catch_all = None
        found = []
        for entry in sorted(entries, key=lambda entry: entry.order):
            if entry.match.always:
                self.catch_all = entry.rule
                break
            found.append((entry.match.fits, entry.rule))
        self.entries = tuple(found)


class Index:
    """All hosts and their rules."""

    __slots__ = ("_any", "_exact", "_wildcards")

    def __init__(self, entries: dict[str, list[Entry]]) -> None:
        """`entries` by host as a route names it; `""` is any host."""
        hosts = {name: Host(found) for name, found in entries.items()}
        self._any = hosts.pop("", None)
        self._wildcards = {
            name.removeprefix("*").encode(): host for name, host in hosts.items() if name.startswith("*")
        }
        self._exact = {name.encode(): host for name, host in hosts.items() if not name.startswith("*")}
        for suffix, host in self._wildcards.items():
            host.broader = self._wildcard(suffix)
        for name, host in self._exact.items():
            host.broader = self._wildcard(name)

    def find(self, host: bytes, path: bytes, query: bytes, method: bytes, headers: Headers) -> Rule | None:
        """The rule that the request belongs to; None when there is none."""
        found = self._exact.get(host) or self._wildcard(host)
        while found is not None:
            for fits, rule in found.entries:
                if fits(path, query, method, headers):
                    return rule
            if found.catch_all is not None:
                return found.catch_all
            found = found.broader
        return None

    def _wildcard(self, host: bytes) -> Host | None:
        """The longest wildcard, or any host, that takes in a host more specific than itself."""
        if self._wildcards:
            dot = host.find(b".", 1)
            while dot != -1:
                found = self._wildcards.get(host[dot:])
                if found is not None:
                    return found
                dot = host.find(b".", dot + 1)
        return self._any


def compiled(pattern: str) -> Callable[[bytes], object]:
    """The full match of an RE2 expression; ValueError when it is none or too long."""
    # RE2 takes 2.5 MB, and most proxies serve no regular expression.
    from stickyroute_api.pattern import compiled as compile_pattern  # noqa: PLC0415

    return compile_pattern(pattern)


def _named(part: str, pattern: str) -> Callable[[bytes], object]:
    try:
        return compiled(pattern)
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from error


def _value(part: str, given: snapshot.HeaderMatch, name: str) -> Value:
    try:
        return Value(given, name)
    except ValueError as error:
        raise ValueError(f"{part}[{given.name}]: {error}") from error


def _has_headers(headers: Headers, wanted: Sequence[Value]) -> bool:
    return all(_has_header(headers, value) for value in wanted)


def _has_header(headers: Headers, wanted: Value) -> bool:
    """Several fields of one name count as one, joined by commas (RFC 9110, section 5.3)."""
    values = [value for name, value in headers if name.lower() == wanted.name]
    return bool(values) and bool(wanted.fits(values[0] if len(values) == 1 else b", ".join(values)))


def _has_params(query: bytes, wanted: Sequence[Value]) -> bool:
    given = _params(query)
    return all(param.name in given and bool(param.fits(given[param.name])) for param in wanted)


@lru_cache(maxsize=1)  # a host's matches look at the same query in turn
def _params(query: bytes) -> Mapping[bytes, bytes]:
    """The first value of a repeated parameter counts."""
    given: dict[bytes, bytes] = {}
    for part in dict.fromkeys(query.split(b"&")):
        name, _, value = part.partition(b"=")
        given.setdefault(decoded(name), decoded(value))
    return given
