"""Answers: a strict reader or h11 reads the same as ours, neither anything else, whatever the pieces."""

from re import compile as regex

from httptools import HttpResponseParser
from tests.component.wire.corpus import strict
from tests.component.wire.corpus.answers import every_answer
from tests.component.wire.corpus.asking import read_by_h11
from tests.fuzz.pieces import same_in_pieces

from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.parser import UNTIL_CLOSE, MalformedError, Reader

SAMPLE = 20
"""Every so-manyth answer of the corpus is a seed."""
_INTERIM = regex(rb"HTTP/1\.[01] 1[0-9]{2}[ \r]")
Found = tuple[bytes, bytes, int] | None
FOUND = [b"HTTP/1.1 102 X\r\n\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0;=b\r\n\r\n"]
"""What once failed."""


def seeds() -> list[bytes]:
    return [one.data for one in every_answer()[::SAMPLE] if len(one.data) < 600] + FOUND


def read(pieces: list[bytes]) -> Found:
    """The first final answer to a GET: head, body and end; None where it is refused or has no end.

    The loop is that of a connection to an endpoint, without the sockets.
    """
    reader, answer = Reader(HttpResponseParser), AnswerHead()
    final = False
    body, position = b"", 0
    try:
        for piece in pieces:
            data = piece
            while data:
                if not final:
                    end = reader.head(data, 0)
                    if end < 0:
                        position += len(data)
                        break
                    answer.read(reader.line, reader.headers, to_head=False, same=reader.same)
                    if answer.status == 101:
                        return None
                    final = answer.status >= 200
                    reader.expect(answer.body if final else 0, announced=final)
                else:
                    parts, end = reader.body(data, 0)
                    body += b"".join(parts)
                position += end
                data = data[end:]
                if final and reader.done:
                    return answer.write(b"", chunked=answer.body < 0), body, position
    except MalformedError:
        return None
    if final and answer.body == UNTIL_CLOSE:
        return answer.write(b"", chunked=True), body, position
    return None


def check(data: bytes) -> None:
    found = same_in_pieces(read, data)
    if found is None:
        return
    written, body, end = found
    sent = written + body
    if b"\r\nTransfer-Encoding: chunked\r\n" in written:
        sent = written + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    message, _ = strict.read_answer(sent, 0, to_head=False, ended=True)
    assert message.body == body, sent
    readings = 0
    received = _without_empty_lines(data[:end])
    try:
        message, read_to = _final(received)
    except (strict.MalformedError, strict.IncompleteError):
        pass
    else:
        readings += 1
        assert (message.body, read_to) == (body, len(received)), received
    reading = read_by_h11(b"GET", received)
    if not isinstance(reading, str):
        readings += 1
        assert reading[1] == body, received
    assert readings, received


def _without_empty_lines(data: bytes) -> bytes:
    """The same without the empty lines before heads, which we let pass and neither reader does."""
    kept = b""
    while True:
        while data.startswith(b"\r\n"):
            data = data[2:]
        if not _INTERIM.match(data):
            return kept + data
        head, end, data = data.partition(b"\r\n\r\n")
        kept += head + end


def _final(data: bytes) -> tuple[strict.Message, int]:
    pos = 0
    while True:
        message, pos = strict.read_answer(data, pos, to_head=False, ended=True)
        if not message.start[1].startswith(b"1"):
            return message, pos
