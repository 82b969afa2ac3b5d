"""What a request with forged keys takes beside one without, from its bytes to the head that goes on.

Who forges keys is to learn nothing from the time that it takes, and to win no time of the proxy's. All else
is alike in both requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from bench.figures import Spread
from bench.fleets import COOKIE, ENVELOPE, HEADER, HOST, NOW, fleet, minted, only_rule
from bench.rounds import Work, interleaved
from httptools import HttpRequestParser

from stickyroute_api import snapshot
from stickyroute_api.settings import Limits
from stickyroute_proxy.affinity.choose import choose
from stickyroute_proxy.affinity.keys import MAX_PRESENTED
from stickyroute_proxy.affinity.token import LENGTH
from stickyroute_proxy.table import Table, build
from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import Reader

CALLS: Final = 1_000
"""Requests of each kind in a round."""
KEY: Final = "{}"
"""Stands for a key of the right form, another one each time."""
_PADDING: Final = "A" * 8 * 1024
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_FIELDS: Final = (
    f"Host: {HOST.decode()}",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
    "Accept: text/html,application/xhtml+xml",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to forge."""

    title: str
    policy: snapshot.Persistence
    forged: str
    """Complete fields."""
    missing: str
    """What the other request has in their place."""
    judged: bool = True
    """Whether it counts towards the target."""


def _cookies(*pairs: str) -> str:
    return f"Cookie: {'; '.join(['theme=dark', *pairs, 'lang=en'])}"


_OURS: Final = COOKIE.cookie.name if COOKIE.cookie else ""
_NONE: Final = _cookies()
_ENVELOPE: Final = f"{ENVELOPE.name}={KEY}~value"
_FIELD: Final = f"{HEADER.name}: {KEY}"

CASES: Final = (
    Case("1 forged cookie", COOKIE, _cookies(f"{_OURS}={KEY}"), _NONE),
    Case(f"{MAX_PRESENTED} forged cookies", COOKIE, _cookies(*[f"{_OURS}={KEY}"] * MAX_PRESENTED), _NONE),
    Case(
        "a forged cookie of 8 KiB",
        COOKIE,
        _cookies(f"{_OURS}={KEY}{_PADDING}"),
        _cookies(f"{_OURS[::-1]}={KEY}{_PADDING}"),
    ),
    Case("1 forged header", HEADER, f"{_FIELD}\r\n{_NONE}", _NONE),
    Case(f"{MAX_PRESENTED} forged headers", HEADER, f"{_FIELD}\r\n" * MAX_PRESENTED + _NONE, _NONE),
    Case("1 forged envelope", ENVELOPE, _cookies(_ENVELOPE), _NONE),
    Case(
        f"{MAX_PRESENTED} forged envelopes",
        ENVELOPE,
        _cookies(*[_ENVELOPE] * MAX_PRESENTED),
        _NONE,
        judged=False,
    ),
)
"""Of several envelopes each is opened for the application, whatever its token is worth; that takes its time.
Of 8 KiB the bytes alone take time, whatever they are called: there the other request has them too, under
another name."""


@dataclass(frozen=True, slots=True)
class Apart:
    """What the two requests of a case take, in microseconds."""

    title: str
    forged: Spread
    missing: Spread
    judged: bool

    @property
    def apart(self) -> float:
        """How far the medians are apart."""
        return abs(self.forged.middle - self.missing.middle)


def measure(rounds: int) -> list[Apart]:
    """All cases in interleaved rounds."""
    random = Random(7)
    works: dict[tuple[Case, str], Work] = {}
    for case in CASES:
        table = build(fleet(1, 10, case.policy), None, NOW, random)
        genuine = minted(only_rule(table), random)
        for what in (case.forged, case.missing):
            works[case, what] = _work(table, messages(what, genuine, random), random)
    taken = {each: Spread.of(found) for each, found in interleaved(works, rounds).items()}
    return [
        Apart(case.title, taken[case, case.forged], taken[case, case.missing], case.judged) for case in CASES
    ]


def messages(fields: str, genuine: bytes, random: Random) -> list[bytes]:
    """Requests with these fields. No two are alike: a connection's last fields are not read again."""
    found = []
    for number in range(CALLS):
        keys = [forged(genuine, random) for _ in range(fields.count(KEY))]
        lines = ["GET /cart HTTP/1.1", *_FIELDS, f"X-Number: {number:08}", fields.format(*keys), "", ""]
        found.append("\r\n".join(lines).encode())
    return found


def forged(genuine: bytes, random: Random) -> str:
    """A key of the genuine one's version, number and form; all else is made up."""
    middle = "".join(random.choices(_ALPHABET, k=LENGTH - 5))
    return f"{genuine[:4].decode()}{middle}{chr(genuine[LENGTH - 1])}"


def _work(table: Table, requests: Sequence[bytes], random: Random) -> Work:
    """Read, decide on and write the requests of one connection."""

    def run() -> None:
        reader, head, kinds = Reader(HttpRequestParser, Limits()), RequestHead(), Kinds()
        for request in requests:
            reader.head(request, 0)
            head.read(reader.line, reader.headers, kinds, reader.same)
            reader.expect(head.body)
            rule = table.find(head.host, head.path, head.query, head.method, head.headers)
            if rule is None:
                raise LookupError("the bench's own route does not match")
            choose(rule, head, NOW, random)
            head.write(head.authority, rule.scope.carrier, rule.notify_header, None, b"", rule.changes)
        reader.close()

    return Work(run, len(requests))
