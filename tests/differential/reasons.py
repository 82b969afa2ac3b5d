"""Why StickyRoute does otherwise than HAProxy or nginx: one reason for each class of differences.

A class is a side, what became of the message here, and the rule of the corpus that decided. The rules and the
sections they stand on are in `corpus.rules` and `corpus.answer`.
"""

REFUSED, SERVED, CLOSED, CUT = "refused", "served", "closed without an answer", "cut"

REASONS: dict[tuple[str, str], dict[str, str]] = {
    ("requests", REFUSED): {
        "CONNECT or TRACE": "No tunnel to anywhere, and no echo of what we add to a request.",
        "HTTP/0.9": "Said with a status: who sends it is a person at a terminal or a scanner.",
        "Host": (
            "Routing is by Host: it has to be one. What reaches a backend is well-formed; we are not the "
            "one to find out how it reads what is not."
        ),
        "Host by policy": "No route can name it: it is no DNS name, nor an address.",
        "WebSocket with a body": "Its body would be the tunnel's first bytes, or a request's.",
        "chunk data": "Served by others because of what follows in the test; its size lies.",
        "chunk extension grammar": (
            "Repairing is where two readers in a chain come to differ: extensions have been used for it."
        ),
        "chunk line end": (
            "Repairing is where two readers in a chain come to differ: a bare LF or CR in chunked framing "
            "above all."
        ),
        "chunk line length": "Extensions mean nothing to anyone; long ones are an attack.",
        "chunk size": "Repairing is where two readers in a chain come to differ.",
        "white space in chunk line": (
            "Repairing is where two readers in a chain come to differ; nobody sends it."
        ),
        "white space behind": (
            "Optional white space behind a framing or routing value is refused rather than trimmed: known "
            "to part readers, and no client sends it."
        ),
        "coding": "An empty member of the list. Repairing is where two readers in a chain come to differ.",
        "coding on 1.0": "HTTP/1.0 has no codings: RFC 9112 §6.1 calls the framing faulty.",
        "codings": (
            "Repairing is where two readers in a chain come to differ: exactly `chunked` is unmistakable."
        ),
        "length and coding": "The classic of smuggling; RFC 9112 §6.1 lets us refuse it.",
        "length grammar": "Repairing is where two readers in a chain come to differ.",
        "lengths": "Equal lengths may be merged; who sends two has a fault that is better seen.",
        "expectation unknown": "RFC 9110 §10.1.1: 417 is the answer to what is not understood.",
        "field count": "Our limit is 128 fields; theirs is another number.",
        "head length": "Our limit is 32 KiB, and it is answered with 431.",
        "field line": "Skipping a line that cannot be read hides what another reader sees in it.",
        "field name": "Dropping such a field in silence hides the fault from who sends it.",
        "field value": (
            "What reaches a backend is well-formed; we are not the one to find out how it reads what is not."
        ),
        "folded": "RFC 9112 §5.2: a server refuses it or unfolds it; repairing is where readers differ.",
        "framing trailer": "Framing fields in trailers have one purpose only.",
        "trailer grammar": "A trailer that cannot be read ends a message in doubt.",
        "trailer length": "Trailers are bounded as heads are.",
        "line end": "Repairing is where two readers in a chain come to differ: lines end in CRLF.",
        "method length": "Our limit is 32 bytes, which every registered method is well within; 501.",
        "no Host": "RFC 9112 §3.2: 400.",
        "two Hosts": "RFC 9112 §3.2: 400, equal or not.",
        "other protocol": "Said with a status where a request line can be read.",
        "request line": "Repairing is where two readers in a chain come to differ.",
        "target": "Neither a path nor a URL with a host that can be routed.",
        "target byte": (
            "What reaches a backend is well-formed; we are not the one to find out how it reads what is "
            "not; a fragment is never sent."
        ),
        "version": "Only HTTP/1.1 and HTTP/1.0 are spoken; nobody has spoken HTTP/1.2 so far.",
        "version grammar": "One digit, a point, one digit.",
    },
    ("requests", SERVED): {
        "absolute target": (
            "RFC 9112 §3.2.2: the URL's authority replaces Host, whatever that says; HAProxy wants both "
            "equal, nginx keeps Host where it is told to pass it on."
        ),
        "asterisk target": "RFC 9110 §9.3.7: OPTIONS for the server as a whole.",
        "method token": "Methods are the backend's to know, as their case is; nginx knows upper case only.",
        "odd field": "Within our limits, which are wider than HAProxy's buffer.",
        "odd target": (
            "Paths are passed on byte for byte: what they mean is the backend's to say. nginx resolves "
            "dot segments and refuses those that leave the root."
        ),
        "plain": (
            "Well-formed and within our limits: tabs are white space too, names may have one letter, and "
            "a head may have 32 KiB. An HTTP/1.0 request without Host gets one."
        ),
        "upgrade ignored": "An upgrade that is not served is no fault: it is left out.",
        "upgrade to WebSocket": "The version is between client and backend; HAProxy checks it.",
    },
    ("requests", CLOSED): {
        "other protocol": "There is nobody to tell.",
        "truncated": "The client has gone; what came of the body is within our limits.",
    },
    ("answers", REFUSED): {
        "chunks": (
            "502: repairing is where readers differ, and what came with the head was not passed on yet."
        ),
        "field line": "Clients get well-formed answers or 502.",
        "folded": "RFC 9112 §5.2 lets a proxy answer 502; header injection looks like this.",
        "framing": "502: repairing is where readers differ; the connection to the backend is closed.",
        "framing trailer": "Framing fields in trailers have one purpose only.",
        "line end": (
            "Repairing is where two readers in a chain come to differ: header injection looks like this."
        ),
        "status line": "No status line, no answer: 502. nginx takes it for HTTP/0.9.",
        "too long": "Our limit is 128 fields and 32 KiB.",
        "unasked upgrade": "What follows would be taken for an answer, or for a tunnel.",
        "white space behind": "As in requests.",
    },
    ("answers", SERVED): {
        "empty line first": "An empty line left over by the answer before; it does no harm.",
        "interim": "Early Hints are worth having; this nginx takes any 1xx for the answer.",
        "no space behind status": "Many backends leave it out; clients get it.",
        "odd field": "Within our limits, which are wider than nginx's one buffer.",
        "plain": "Within our limits: 128 fields, 32 KiB.",
    },
    ("answers", CUT): {
        "truncated": "A body without its end is never passed on as a whole one.",
    },
}
