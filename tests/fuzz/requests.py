"""Requests: a strict reader or h11 reads the same as ours, neither anything else, whatever the pieces."""

from httptools import HttpRequestParser
from tests.component.wire.corpus import strict
from tests.component.wire.corpus.build import every_request
from tests.component.wire.corpus.run import read_by_h11
from tests.fuzz.pieces import same_in_pieces

from stickyroute_api.snapshot import Cookie
from stickyroute_proxy.affinity.carrier import OurCookie
from stickyroute_proxy.wire.head import Kinds, RequestHead
from stickyroute_proxy.wire.parser import MalformedError, Reader

KINDS = Kinds(frozenset((b"x-session-lost",)))
COOKIE = OurCookie(Cookie(name="sr"), None)
SAMPLE = 20
"""Every so-manyth message of the corpus is a seed: enough to start from, and soon read."""
REFUSED, OPEN, CLOSED = "refused", "open", "closed"


def seeds() -> list[bytes]:
    return [message.data for message in every_request()[::SAMPLE] if len(message.data) < 600]


def read(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes, int]], str]:
    """The requests as they would go on: head, body and where each ends; and how it came to its end.

    The loop is that of a client's connection, without the sockets.
    """
    reader, head = Reader(HttpRequestParser), RequestHead()
    found: list[tuple[bytes, bytes, int]] = []
    written, body, position = b"", b"", 0
    try:
        for piece in pieces:
            data = piece
            while data:
                if reader.done:
                    end = reader.head(data, 0)
                    if end < 0:
                        position += len(data)
                        break
                    head.read(reader.line, reader.headers, KINDS, same=reader.same)
                    reader.expect(head.body)
                    head.request_id = head.request_id or b"id"
                    written, body = write(head), b""
                else:
                    parts, end = reader.body(data, 0)
                    body += b"".join(parts)
                position += end
                data = data[end:]
                if reader.done:
                    found.append((written, body, position))
                    if not head.keep_alive:
                        return found, CLOSED
    except MalformedError:
        return found, REFUSED
    return found, OPEN


def write(head: RequestHead) -> bytes:
    return head.write(head.authority or b"endpoint:80", COOKIE, b"x-session-lost", None, b"")


def check(data: bytes) -> None:
    found, _ = same_in_pieces(read, data)
    start = 0
    for written, body, end in found:
        _check_written(written, body)
        _check_read(data[start:end], written, body)
        start = end


def _framed(written: bytes, body: bytes) -> bytes:
    if b"\r\nTransfer-Encoding: chunked\r\n" in written:
        return written + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return written + body


def _check_written(written: bytes, body: bytes) -> None:
    """What goes on is one message, for both readers."""
    sent = _framed(written, body)
    message, end = strict.read_request(sent)
    assert (message.body, end) == (body, len(sent)), sent
    reading = read_by_h11(sent)
    assert not isinstance(reading, str), reading
    assert (reading.body, reading.target) == (body, message.start[1]), sent


def _check_read(received: bytes, written: bytes, body: bytes) -> None:
    """Whoever reads what was received reads this message, with this body and this end."""
    data = received
    while data.startswith(b"\r\n"):
        data = data[2:]
    method = written.partition(b" ")[0]
    readings = 0
    try:
        message, end = strict.read_request(data)
    except (strict.MalformedError, strict.IncompleteError):
        pass
    else:
        readings += 1
        assert (message.start[0], message.body, end) == (method, body, len(data)), data
    reading = read_by_h11(data)
    if not isinstance(reading, str):
        readings += 1
        assert (reading.method, reading.body) == (method, body), data
    assert readings, data
