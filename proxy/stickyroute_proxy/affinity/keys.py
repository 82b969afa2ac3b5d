"""What a decision reads of a request: the keys that it shows, or the value that is hashed."""

from binascii import unhexlify
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from re import Match
from re import compile as regex
from typing import Final, Protocol

from stickyroute_api import snapshot
from stickyroute_proxy.affinity.decision import Decision

MAX_PRESENTED: Final = 8
"""How many values of one name are looked at."""
_ESCAPE: Final = regex(rb"%([0-9A-Fa-f]{2})")


Bound = tuple[bytes, bytes, Decision | None]
"""The token that was looked up last, its `sessions.mark`, and the decision that it held.

Clients show the same token again, and come to the same decision.
"""


class Facts(Protocol):
    """A request, as far as decisions see it."""

    address: str
    """The client's; an IPv4 or IPv6 address."""
    cookies: list[bytes]
    """The values of the Cookie fields."""
    query: bytes
    bound: Bound

    def values(self, name: bytes) -> list[bytes]:
        """The values of the fields of that lower-case name."""

    def field(self, name: bytes) -> bytes:
        """The values of a field, by its lower-case name, joined by commas; empty when there is none."""

    def presented(self, prefix: bytes) -> list[bytes]:
        """The values of the cookies that start with `prefix`, as the function of that name finds them."""


Presenter = Callable[[Facts], list[bytes]]
"""The keys that a request shows, at most MAX_PRESENTED; a scope's `carrier` has it."""


Reader = Callable[[Facts], bytes]
"""The value of a request that is hashed; empty when it has none."""


def value_of(policy: snapshot.Persistence) -> snapshot.HashOn | None:
    """The value that places the requests of a hashed scope; None for all other scopes."""
    if policy.type == "SourceIP" or policy.type == "QueryParam":  # noqa: PLR1714 - narrows the type
        return snapshot.HashOn(type=policy.type, name=policy.name)
    return None


def reader(hash_on: snapshot.HashOn) -> Reader:
    """What reads the value."""
    name = hash_on.name.encode()
    match hash_on.type:
        case "SourceIP":
            return lambda facts: network(facts.address)
        case "Header":
            lower = name.lower()
            return lambda facts: facts.field(lower)
        case "QueryParam":
            return lambda facts: param(facts.query, name)
        case "Cookie":
            prefix = name + b"="
            return lambda facts: next(iter(facts.presented(prefix)), b"")


@lru_cache(maxsize=4096)
def network(address: str) -> bytes:
    """What tells clients apart: an IPv4 address, or the /64 of an IPv6 one, all of which is one client's."""
    try:
        found = ip_address(address)
    except ValueError:
        return b""
    return found.packed[:8] if isinstance(found, IPv6Address) else found.packed


def param(query: bytes, name: bytes) -> bytes:
    """The first value of a query parameter, decoded; empty when there is none."""
    for part in dict.fromkeys(query.split(b"&")):
        key, _, value = part.partition(b"=")
        if decoded(key) == name:
            return decoded(value)
    return b""


def decoded(text: bytes) -> bytes:
    """A name or value of a query as it is meant."""
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return _ESCAPE.sub(_unescaped, text) if b"%" in text else text


def _unescaped(found: Match[bytes]) -> bytes:
    return unhexlify(found[1])


def presented(cookies: list[bytes], prefix: bytes) -> list[bytes]:
    """The values of the cookies that start with `prefix` (`name=`), in order, at most MAX_PRESENTED.

    `cookies` are the values of the request's Cookie fields. Any bytes are safe to give.
    """
    found: list[bytes] = []
    for value in cookies:
        at = value.find(prefix)
        while at != -1:
            start = at + len(prefix)
            end = value.find(b";", start)
            if at == 0 or value[at - 2 : at] == b"; " or _begins_pair(value, at):
                found.append(value[start:] if end == -1 else value[start:end])
                if len(found) == MAX_PRESENTED:
                    return found
            if end == -1:
                break
            at = value.find(prefix, end)
    return found


def _begins_pair(value: bytes, at: int) -> bool:
    """Whether only white space stands between position `at` and the pair's beginning."""
    before = value.rfind(b";", 0, at)
    return not value[before + 1 : at].strip(b" \t")
