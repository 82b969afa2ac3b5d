"""Answers put together from parts, and what may become of each kind."""

from dataclasses import dataclass
from typing import NamedTuple

from tests.component.wire.corpus.message import Field, Framing

SERVED = frozenset(("served",))
REFUSED = frozenset(("refused",))
BROKEN = frozenset(("refused", "cut"))
EITHER = frozenset(("served", "refused"))


class Rule(NamedTuple):
    """`outcomes`: of served, refused (502) and cut (begun, and seen by the client not to have ended)."""

    outcomes: frozenset[str]
    source: str


RULES = {
    "plain": Rule(SERVED, "RFC 9112 §4"),
    "odd status": Rule(SERVED, "RFC 9110 §15: any three digits; an unknown one is as x00"),
    "no space behind status": Rule(EITHER, "RFC 9112 §4: it stays without a reason; many leave it out"),
    "HTTP/1.0 answer": Rule(SERVED, "RFC 9110 §2.5: passed on as HTTP/1.1"),
    "until close": Rule(SERVED, "RFC 9112 §6.3: the connection's end is the body's"),
    "empty line first": Rule(EITHER, "RFC 9112 §2.2 speaks of requests only"),
    "interim": Rule(SERVED, "RFC 9110 §15.2: passed on, but to HTTP/1.0; a 100 may go no further"),
    "behind the end": Rule(SERVED, "RFC 9112 §9.2: the answer to nothing; its connection is closed"),
    "no body here": Rule(SERVED, "RFC 9112 §6.3: none for HEAD, 204 and 304, whatever the fields say"),
    "hop by hop": Rule(SERVED, "RFC 9110 §7.6.1"),
    "odd field": Rule(SERVED, "RFC 9110 §5.5"),
    "length": Rule(SERVED, "RFC 9112 §6.2"),
    "chunked": Rule(SERVED, "RFC 9112 §7.1"),
    "odd extension": Rule(SERVED | BROKEN, "RFC 9112 §7.1.1: ignored as any"),
    "trailer": Rule(SERVED, "RFC 9110 §6.5.1"),
    "framing trailer": Rule(SERVED | BROKEN, "RFC 9110 §6.5.1: never of effect"),
    "white space behind": Rule(EITHER, "RFC 9112 §5: no part of the value, and a known cause of desync"),
    "status line": Rule(REFUSED, "RFC 9112 §4"),
    "unasked upgrade": Rule(REFUSED, "RFC 9110 §7.8: a server upgrades only to what was asked for"),
    "field line": Rule(REFUSED, "RFC 9112 §5: an invalid answer is 502"),
    "folded": Rule(REFUSED, "RFC 9112 §5.2: replaced by a space or 502; no one sends it any more"),
    "line end": Rule(REFUSED, "RFC 9112 §2.2"),
    "framing": Rule(REFUSED, "RFC 9112 §6.3: a proxy answers 502 and closes the connection upstream"),
    "chunks": Rule(BROKEN, "RFC 9112 §8: incomplete; never to be taken for complete"),
    "truncated": Rule(BROKEN, "RFC 9112 §8: incomplete; never to be taken for complete"),
    "too long": Rule(REFUSED, "a head without bounds"),
}


@dataclass(frozen=True)
class Status:
    """A status line, or whatever stands in its place; `interim`: what passes before it."""

    data: bytes
    rule: str = "plain"
    status: int = 200
    interim: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a backend sends, and what a client has to make of it."""

    name: str
    rules: tuple[str, ...]
    data: bytes
    status: int = 200
    interim: tuple[int, ...] = ()
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    ends: bool = False
    """The backend closes behind it."""
    method: bytes = b"GET"
    http10: bool = False
    """It was asked for in HTTP/1.0."""
    number: int = 0

    @property
    def outcomes(self) -> frozenset[str]:
        """Served if every rule lets it be; else what the rules name beside that."""
        every = [RULES[rule].outcomes for rule in self.rules]
        others = frozenset(outcome for one in every for outcome in one - SERVED)
        return others | SERVED if all("served" in one for one in every) else others


OK = Status(b"HTTP/1.1 200 OK")
LENGTH = Framing("length", b"Content-Length: 5\r\n", b"hello", "length", b"hello")
CLOSE = Framing("until close", b"", b"hello", "until close", b"hello")
NOTHING = Framing("empty", b"Content-Length: 0\r\n")


def chunks(name: str, body: bytes, rule: str = "chunked") -> Framing:
    return Framing(name, b"Transfer-Encoding: chunked\r\n", body, rule, b"hello")


CHUNKED = chunks("chunked", b"2\r\nhe\r\n3;a\r\nllo\r\n0\r\nT: 1\r\n\r\n")


def answer(*fields: Field, status: Status = OK, framing: Framing = LENGTH, ends: bool = False) -> Answer:
    """The answer of these parts."""
    rules = {part.rule: None for part in (status, *fields, framing)}
    return Answer(
        name=" | ".join((repr(status.data[:60]), *(one.name for one in fields), framing.name)),
        rules=tuple(rules),
        data=b"\r\n".join(
            (status.data, *(one.data for one in fields), framing.fields + b"\r\n" + framing.body)
        ),
        status=status.status,
        interim=status.interim,
        fields=tuple(pair for one in fields for pair in one.means),
        body=b"" if status.status in (204, 304) else framing.content,
        ends=ends or framing.rule in ("until close", "truncated"),
    )
