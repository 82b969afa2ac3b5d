"""Cookies that a browser would send together: two scopes of one cookie name on overlapping hosts and paths.

The younger one's route is told. A browser keeps one cookie of a name, domain and path, so the sessions of
one scope end those of the other; where domain or path differ it sends both, in an order of its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stickyroute_api.reasons import ConditionReason
from stickyroute_api.snapshot import Match
from stickyroute_operator.objects import Key
from stickyroute_operator.translate.form import Compiled, RuleForm
from stickyroute_operator.translate.verdicts import Verdict

ANY_HOST = ""


@dataclass(frozen=True, slots=True)
class _Jar:
    """One scope's cookie, and the requests that the scope serves."""

    route: Key
    scope: str
    name: str
    path: str
    reach: tuple[str, ...]
    """The hosts that a browser returns it to."""
    hosts: tuple[str, ...]
    matches: tuple[Match, ...]


def conflicts(routes: Iterable[Compiled]) -> dict[Key, Verdict]:
    """What is to be told to each route whose cookie meets that of an older scope."""
    told: dict[Key, Verdict] = {}
    indexes: defaultdict[str, _Index] = defaultdict(_Index)
    for route in sorted(routes, key=lambda route: route.age):
        for jar in _jars(route):
            older = next(indexes[jar.name].meeting(jar), None)
            if older is not None:
                told.setdefault(route.key, _verdict(jar, older))
            indexes[jar.name].add(jar)
    return told


def _jars(route: Compiled) -> Iterator[_Jar]:
    scopes: defaultdict[str, list[RuleForm]] = defaultdict(list)
    for rule in route.rules:
        scopes[rule.scope].append(rule)
    hosts = route.hosts or (ANY_HOST,)
    for scope, rules in scopes.items():
        policy = rules[0].persistence
        matches = tuple(match for rule in rules for match in rule.matches)
        if policy.cookie is not None:
            domain = policy.cookie.domain
            reach = (domain, f"*.{domain}") if domain else hosts
            yield _Jar(route.key, scope, policy.cookie.name, policy.cookie.path, reach, hosts, matches)
        elif policy.type == "AppCookie":
            # What attributes the application gives its cookie is not known: those that most do.
            yield _Jar(route.key, scope, policy.name, "/", hosts, hosts, matches)


def _verdict(jar: _Jar, older: _Jar) -> Verdict:
    ours, theirs = "/".join(jar.route), "/".join(older.route)
    where = "of this route" if ours == theirs else f"of route {theirs}"
    met = older.reach + older.hosts
    host = next(host for host in jar.hosts + jar.reach if any(_overlap(host, other) for other in met))
    return Verdict(
        True,
        ConditionReason.COOKIE_CONFLICT,
        f"On {host or 'any host'} browsers send cookie {jar.name} of scope {jar.scope} together with that of"
        f" the older scope {older.scope} {where}, so sessions of one end or hide those of the other: give one"
        " another sessionName (none: a name of its own), or cookie paths or hosts that do not overlap",
    )


class _Hosts:
    """Numbers by host patterns; a look-up costs what a host has labels, not what there are hosts."""

    def __init__(self) -> None:
        self._exact: defaultdict[str, set[int]] = defaultdict(set)
        self._below: defaultdict[str, set[int]] = defaultdict(set)
        """By domain, those of patterns for hosts below it."""
        self._all: set[int] = set()

    def add(self, patterns: Iterable[str], number: int) -> None:
        self._all.add(number)
        for pattern in patterns:
            self._exact[pattern].add(number)
            for domain in _domains(pattern):
                self._below[domain].add(number)

    def overlapping(self, patterns: Iterable[str]) -> set[int]:
        found: set[int] = set()
        for pattern in patterns:
            if pattern == ANY_HOST:
                return self._all
            found |= self._exact[pattern] | self._exact[ANY_HOST]
            for domain in _domains(pattern):
                found |= self._exact[f"*.{domain}"]
            if pattern.startswith("*."):
                found |= self._below[pattern[2:]]
        return found


class _Index:
    """The jars of one cookie name, oldest first, found by host."""

    def __init__(self) -> None:
        self._jars: list[_Jar] = []
        self._reach, self._hosts = _Hosts(), _Hosts()

    def add(self, jar: _Jar) -> None:
        number = len(self._jars)
        self._jars.append(jar)
        self._reach.add(jar.reach, number)
        self._hosts.add(jar.hosts, number)

    def meeting(self, jar: _Jar) -> Iterator[_Jar]:
        """Those of which a browser would send the cookie beside this one's."""
        into, out_of = self._reach.overlapping(jar.hosts), self._hosts.overlapping(jar.reach)
        for number in sorted(into | out_of):
            other = self._jars[number]
            shorter, deeper = sorted((jar.path, other.path), key=len)
            if not _within(deeper, shorter):
                continue
            if (number in into and _fit(jar.matches, deeper)) or (
                number in out_of and _fit(other.matches, deeper)
            ):
                yield other


def _domains(pattern: str) -> Iterator[str]:
    """The domains that all hosts of a pattern are below."""
    _, _, rest = pattern.partition(".")
    while rest:
        yield rest
        _, _, rest = rest.partition(".")


def _overlap(one: str, other: str) -> bool:
    return (
        ANY_HOST in (one, other)
        or one == other
        or (one.startswith("*.") and f".{other}".endswith(one[1:]) and other != one[2:])
        or (other.startswith("*.") and f".{one}".endswith(other[1:]) and one != other[2:])
    )


def _fit(matches: Iterable[Match], cookie: str) -> bool:
    """Whether a request that one of these fits carries a cookie of this path (RFC 6265, 5.1.4)."""
    return any(
        match.path_type == "RegularExpression"
        or _within(match.path, cookie)
        or (match.path_type == "PathPrefix" and _within(cookie, match.path))
        for match in matches
    )


def _within(path: str, prefix: str) -> bool:
    prefix = prefix.rstrip("/")
    return path == prefix or path.startswith(f"{prefix}/")
