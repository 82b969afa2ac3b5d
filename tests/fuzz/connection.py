"""A client's connection without sockets: what the data path makes of a byte stream that comes in pieces."""

import itertools
from typing import NamedTuple

from httptools import HttpRequestParser
from tests.component.wire.corpus import strict

from stickyroute_proxy.affinity.cookie import strip
from stickyroute_proxy.affinity.keys import presented
from stickyroute_proxy.wire.answer import chunk
from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import CHUNKED, MalformedError, Reader

KINDS = Kinds(frozenset((b"x-session-lost",)))
COOKIE = b"sr"


class Outcome(NamedTuple):
    """What goes upstream for the requests that were understood, and whether the next one was refused."""

    sent: tuple[bytes, ...]
    refused: bool


def outcome(pieces: list[bytes]) -> Outcome:
    """Read the pieces as `Downstream` does: each in turn, what is behind a message as the next one."""
    reader, head = Reader(HttpRequestParser), RequestHead()
    sent: list[bytes] = []
    written: bytes | None = None  # of the request whose body is being read
    body: list[bytes] = []
    for piece in pieces:
        data = piece
        while data:
            try:
                if written is None:
                    end = reader.head(data, 0)
                    if end < 0:
                        break
                    head.read(reader.line, reader.headers, KINDS, same=reader.same)
                    reader.expect(head.body)
                    head.request_id = b"id"
                    written = head.write(head.authority or b"a", COOKIE, b"x-session-lost", None, b"F: f\r\n")
                    body = []
                    data = data[end:]
                if not reader.done:
                    parts, end = reader.body(data, 0)
                    body += [bytes(part) for part in parts]
                    data = data[end:]
            except MalformedError:
                return Outcome(tuple(sent), refused=True)
            if reader.done:
                whole = b"".join(body)
                if head.body == CHUNKED:
                    whole = b"".join(chunk([whole] if whole else [], last=True))
                sent.append(written + whole)
                if not head.keep_alive:
                    return Outcome(tuple(sent), refused=False)  # nothing behind it is read
                written = None
    return Outcome(tuple(sent), refused=False)


def check_stream(data: bytes, cuts: list[int]) -> None:
    """Any segmentation is the same; each request that goes on is exactly one, as another reader judges."""
    whole = outcome([data])
    marks = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    pieces = [data[start:end] for start, end in itertools.pairwise(marks)]
    assert outcome(pieces) == whole, f"cut at {marks}: {outcome(pieces)} instead of {whole}"
    for message in whole.sent:
        read, end = strict.read_request(message)
        assert end == len(message), f"more than one message: {message!r}"
        assert set(read.values(b"connection")) <= {b"TE", b"Upgrade", b"TE, Upgrade", b"Upgrade, TE"}, message
        assert set(read.values(b"upgrade")) <= {b"websocket"}, message


def check_cookie(value: bytes) -> None:
    """Ours is taken out wherever a server would find it; the rest stays as it is."""
    name = COOKIE
    rest = strip(value, name)
    pairs = [pair.strip(b" \t") for pair in (rest or b"").split(b";")]
    assert not any(pair.partition(b"=")[0].rstrip(b" \t") == name and b"=" in pair for pair in pairs), rest
    kept = [
        pair
        for pair in (one.strip(b" \t") for one in value.split(b";"))
        if not (b"=" in pair and pair.partition(b"=")[0].rstrip(b" \t") == name)
    ]
    assert [pair for pair in pairs if pair] == [pair for pair in kept if pair], (value, rest)
    assert len(presented([value], name + b"=")) <= 8
