"""The reader stops exactly at each message's end, however the bytes come; h11 has to read the same."""

from contextlib import suppress
from itertools import pairwise

import h11
import pytest
from httptools import HttpRequestParser, HttpResponseParser
from hypothesis import example, given
from hypothesis import strategies as st

from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import CHUNKED, UNTIL_CLOSE, MalformedError, Reader

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


def chunks(parts, extension=b"", trailers=b""):
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return framed + b"0\r\n" + trailers + b"\r\n"


def pieces(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


def read_all(packets):
    """Every message in the packets, as a connection reads them: [(line, body)], and whether all ended."""
    reader, head = Reader(HttpRequestParser), RequestHead()
    found = []
    body = None
    for packet in packets:
        pos = 0
        while pos < len(packet):
            if body is None:
                pos = reader.head(packet, pos)
                if pos < 0:
                    break
                head.read(reader.line, reader.headers, Kinds())
                reader.expect(head.body)
                body = b""
            if not reader.done:
                parts, pos = reader.body(packet, pos)
                body += b"".join(parts)
            if reader.done:
                found.append((reader.line, body))
                body = None
    return found, body is None and not reader.started


@given(
    st.lists(st.tuples(bodies, st.booleans()), min_size=1, max_size=4), st.lists(st.integers(0), max_size=8)
)
def test_messages_are_parted_where_they_end(messages, cuts):
    data = b""
    for parts, chunked in messages:
        body = b"".join(parts)
        if chunked:
            data += CHUNKED_HEAD + chunks(parts, b";a=b", b"X: y\r\n")
        else:
            data += SIZED_HEAD % len(body) + body
    found, ended = read_all(pieces(data, cuts))
    assert ended
    assert [body for _, body in found] == [b"".join(parts) for parts, _ in messages]


@given(st.binary(max_size=60), st.integers(0, 60), st.lists(st.integers(0), max_size=3))
@example(b"0\r\n\r\n", 0, [])
@example(b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, [])
@example(b"1 \r\na\r\n0\r\n\r\n", 0, [])
@example(b"1\na\n0\n\n", 0, [])
@example(b"00000000000000001\r\na\r\n0\r\n\r\n", 0, [])
@example(b"1\r\nab\r\n0\r\n\r\n", 0, [])
def test_what_is_taken_for_chunks_h11_reads_the_same(noise, at, cuts):
    sound = chunks([b"hello", b"worlds"])
    data = CHUNKED_HEAD + sound[: at % len(sound)] + noise + sound[at % len(sound) :]
    try:
        found, ended = read_all(pieces(data, cuts))
    except MalformedError:
        return
    if not ended:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    events = []
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        events.append(event)
    assert b"".join(bytes(event.data) for event in events[1:]) == found[0][1]


@given(st.binary(max_size=200), st.lists(st.integers(0), max_size=4))
def test_any_bytes_are_read_or_refused(data, cuts):
    with suppress(MalformedError):
        read_all(pieces(data, cuts))


def test_framing_that_llhttp_sees_otherwise_is_refused():
    reader = Reader(HttpRequestParser)
    reader.head(SIZED_HEAD % 5, 0)
    with pytest.raises(MalformedError):
        reader.expect(0)
    reader = Reader(HttpRequestParser)
    reader.head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0)
    with pytest.raises(MalformedError):
        reader.expect(5)
    reader = Reader(HttpRequestParser)
    reader.head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0)
    with pytest.raises(MalformedError):
        reader.expect(CHUNKED)
    reader = Reader(HttpRequestParser)
    reader.head(CHUNKED_HEAD, 0)
    reader.expect(3)
    with pytest.raises(MalformedError):
        reader.body(b"0\r\n\r\n", 0)


def test_answers_until_the_end_and_to_head():
    reader = Reader(HttpResponseParser)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    for _ in range(2):
        assert reader.head(head, 0) == len(head)
        reader.expect(0, announced=True)
        assert reader.done
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    assert reader.head(head, 0) == len(head)
    reader.expect(UNTIL_CLOSE)
    for part in (b"a", b"HTTP/1.1 200 OK\r\n\r\n"):
        assert reader.body(part, 0) == ([part], len(part))
    assert not reader.done


def test_large_parts_are_views():
    reader = Reader(HttpRequestParser)
    head = SIZED_HEAD % 100_000
    data = head + b"x" * 100_000 + b"GET"
    end = reader.head(data, 0)
    reader.expect(100_000)
    parts, pos = reader.body(data, end)
    assert isinstance(parts[0], memoryview)
    assert (len(parts[0]), data[pos:], reader.done) == (100_000, b"GET", True)


def trickle(reader, piece):
    for _ in range(2000):
        reader.body(piece, 0)


def test_bounds_hold_for_lines_that_trickle():
    reader = Reader(HttpRequestParser)
    reader.head(CHUNKED_HEAD, 0)
    reader.expect(CHUNKED)
    reader.body(b"1;", 0)
    with pytest.raises(MalformedError):
        trickle(reader, b"x")
    reader = Reader(HttpRequestParser)
    reader.head(CHUNKED_HEAD, 0)
    reader.expect(CHUNKED)
    reader.body(b"0\r\n", 0)
    with pytest.raises(MalformedError) as caught:
        trickle(reader, b"X: abcd\r\n")
    assert caught.value.status == 431
