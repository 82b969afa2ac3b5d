"""What has to become of each kind of request, and which section says so.

A message is built of parts, each of which names its rule. It is refused if any of its rules refuses, with a
status that one of them names; else it is served. Where RFC 9110 and RFC 9112 leave a choice, the rule says
what a careful edge does, and why.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """`refused`: the statuses that refuse it, 0 for none at all; empty: it is served. `may`: or served."""

    refused: tuple[int, ...]
    source: str
    may: bool = False


SERVED: tuple[int, ...] = ()
BAD = (400,)

RULES = {
    # Served
    "plain": Rule(SERVED, "RFC 9112 §2.1"),
    "empty lines first": Rule(SERVED, "RFC 9112 §2.2: at least one empty line before a request is ignored"),
    "absolute target": Rule(SERVED, "RFC 9112 §3.2.2: served, and its authority replaces Host"),
    "asterisk target": Rule(SERVED, "RFC 9112 §3.2.4: OPTIONS on the server"),
    "odd target": Rule(SERVED, "no structure in it, and browsers send it: passed on byte for byte"),
    "HTTP/1.0": Rule(SERVED, "RFC 9112 §9.3: answered, and closed unless keep-alive was asked"),
    "hop by hop": Rule(SERVED, "RFC 9110 §7.6.1: not passed on, nor what Connection nominates"),
    "close out of place": Rule(SERVED, "served; whether anything behind it is, is left open"),
    "nominated by Connection": Rule(SERVED, "RFC 9110 §7.6.1: framing and routing are no one's to nominate"),
    "forwarding field": Rule(SERVED, "RFC 7239 §8: a stranger's say is replaced"),
    "alias": Rule(
        SERVED, "applications read X_Y as X-Y: such aliases of fields that mean something are dropped"
    ),
    "upgrade ignored": Rule(
        SERVED, "RFC 9110 §7.8: a server may ignore Upgrade; only WebSocket is tunnelled"
    ),
    "upgrade to WebSocket": Rule(SERVED, "RFC 6455 §4.1: passed on; what comes before the 101 is no request"),
    "odd field": Rule(SERVED, "RFC 9110 §5.5: obs-text and inner white space are part of a value"),
    "length": Rule(SERVED, "RFC 9112 §6.2"),
    "length with zeros": Rule(SERVED, "RFC 9110 §8.6: 1*DIGIT, leading zeros included"),
    "chunked": Rule(SERVED, "RFC 9112 §7.1; the name is case-insensitive"),
    "white space behind": Rule(
        BAD, "RFC 9112 §5: no part of the value, and a known cause of desync", may=True
    ),
    "odd extension": Rule(BAD, "RFC 9112 §7.1.1: ignored as any; its line's end is in no doubt", may=True),
    "framing trailer": Rule(BAD, "RFC 9110 §6.5.1: never of effect; ignored or refused", may=True),
    "chunk extension": Rule(SERVED, "RFC 9112 §7.1.1: unknown extensions are ignored"),
    "trailer": Rule(SERVED, "RFC 9110 §6.5.1: never merged into the head; dropped or passed on as trailers"),
    "expectation": Rule(SERVED, "RFC 9110 §10.1.1"),
    "method token": Rule(
        SERVED, "RFC 9110 §9.1: methods are the origin's to know, up to 32 bytes of a token"
    ),
    # Refused: the first line
    "method length": Rule((501,), "RFC 9112 §3: longer than any method that is implemented"),
    "first line length": Rule((400, 414, 431, 501), "RFC 9112 §3: a line too long, by whichever limit"),
    "method": Rule((400, 501), "RFC 9112 §3: a method is a token; no token is no known method either"),
    "CONNECT or TRACE": Rule((405,), "RFC 9110 §9.3.6, §9.3.8: no tunnel and no loop-back through an edge"),
    "request line": Rule((400, 501), "RFC 9112 §3: three parts, single spaces; readers differ in repairs"),
    "version grammar": Rule(BAD, "RFC 9112 §2.3"),
    "version": Rule((400, 505), "RFC 9110 §15.6.6: this is no HTTP/1.0 and no HTTP/1.1"),
    "HTTP/0.9": Rule((400, 505), "RFC 9112 §3: no request line of HTTP/1"),
    "target": Rule(BAD, "RFC 9112 §3.2: not one of the forms, or of the wrong one for the method"),
    "target byte": Rule(
        BAD, "RFC 9112 §3.2: white space, controls, `#` and bytes beyond ASCII are in no target"
    ),
    "target length": Rule((414,), "RFC 9112 §3"),
    # Refused: fields
    "head length": Rule((431,), "RFC 6585 §5"),
    "field count": Rule((431,), "RFC 6585 §5"),
    "no Host": Rule(BAD, "RFC 9112 §3.2"),
    "two Hosts": Rule(BAD, "RFC 9112 §3.2"),
    "Host": Rule(BAD, "RFC 9112 §3.2: no valid uri-host with port"),
    "Host by policy": Rule(BAD, "RFC 3986 §3.2.2 allows it in a name, DNS does not: no route can mean it"),
    "field line": Rule(BAD, "RFC 9112 §5"),
    "space before colon": Rule(BAD, "RFC 9112 §5.1"),
    "folded": Rule(BAD, "RFC 9112 §5.2"),
    "white space first": Rule(BAD, "RFC 9112 §2.2"),
    "field name": Rule(BAD, "RFC 9110 §5.6.2: a token"),
    "field value": Rule(BAD, "RFC 9110 §5.5: CR, LF and NUL; other controls are invalid as well"),
    "line end": Rule(BAD, "RFC 9112 §2.2: lines end in CRLF; a bare CR or LF is read differently by others"),
    "expectation unknown": Rule((417,), "RFC 9110 §10.1.1"),
    "WebSocket with a body": Rule(BAD, "RFC 6455 §4.1: a GET; its body would be the tunnel's first bytes"),
    # Refused: framing
    "length and coding": Rule(BAD, "RFC 9112 §6.1: a possible smuggling attempt"),
    "length grammar": Rule(BAD, "RFC 9112 §6.3"),
    "lengths": Rule(BAD, "RFC 9112 §6.3: more than one; equal ones may be merged, and need not"),
    "length beyond": Rule((400, 413), "RFC 9110 §8.6: a number that overflows is an error"),
    "coding": Rule((400, 501), "RFC 9112 §6.1: only chunked is understood, once and last"),
    "codings": Rule((400, 501), "RFC 9112 §6.1: more than one field or member"),
    "coding on 1.0": Rule(BAD, "RFC 9112 §6.1: faulty framing"),
    "chunk size": Rule(BAD, "RFC 9112 §7.1: 1*HEXDIG"),
    "chunk size beyond": Rule(BAD, "RFC 9112 §7.1: overflow is to be anticipated"),
    "chunk extension grammar": Rule(BAD, "RFC 9112 §7.1.1"),
    "white space in chunk line": Rule(
        BAD, "RFC 9112 §7.1.1 has it removed (BWS); where readers differ, none is"
    ),
    "chunk data": Rule(BAD, "RFC 9112 §7.1: the data is as long as its size says, and CRLF follows"),
    "chunk line end": Rule(BAD, "RFC 9112 §2.2, §7.1: lines end in CRLF"),
    "chunk line length": Rule((400, 413, 431), "RFC 9112 §7.1.1: limit the length of extensions"),
    "trailer grammar": Rule(BAD, "RFC 9112 §7.1.2"),
    "trailer length": Rule((400, 413, 431), "RFC 9110 §6.5.1"),
    # Neither: the message has no end
    "truncated": Rule((0, 400, 408), "RFC 9112 §8: incomplete; closed, with or without an answer"),
    "other protocol": Rule((0, 400, 405, 501, 505), "no HTTP/1: closed, with or without an answer"),
}

LEFT_OPEN = frozenset(("close out of place", "upgrade to WebSocket"))
"""Rules under which what comes behind may be served, refused or left unread."""


class Outcome(NamedTuple):
    """What may become of a message."""

    served: bool
    refused: frozenset[int]


def outcome(rules: tuple[str, ...]) -> Outcome:
    """Served only if no rule refuses for certain; the statuses are those of any rule."""
    every = [RULES[rule] for rule in rules]
    return Outcome(
        served=all(rule.may or not rule.refused for rule in every),
        refused=frozenset(status for rule in every for status in rule.refused),
    )
