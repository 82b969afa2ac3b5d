"""The reader stops exactly at each message's end, however the bytes come; h11 has to read the same."""

import string
from contextlib import suppress
from itertools import pairwise

import h11
import pytest
from httptools import HttpRequestParser, HttpResponseParser
from hypothesis import example, given
from hypothesis import strategies as st

from stickyroute_api.settings import Limits
from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import CHUNKED, MAX_PARTS, UNTIL_CLOSE, MalformedError, Reader

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

DEFAULT = Limits()

bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


def chunks(parts, extension=b"", trailers=b""):
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return framed + b"0\r\n" + trailers + b"\r\n"


def pieces(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


def read_all(packets, limits=DEFAULT):
    """Every message in the packets, as a connection reads them: [(line, body)], and whether all ended."""
    reader, head = Reader(HttpRequestParser, limits), RequestHead()
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


METHODS = st.text(TOKEN, min_size=1, max_size=32) | st.sampled_from(
    # llhttp knows these, as methods of other protocols, or takes them for the beginning of one it knows.
    ["PRI", "SOURCE", "DESCRIBE", "PLAY", "RECORD", "FLUSH", "REDIRECT", "GETS", "G", "get", "M-SEARCH-"]
)


@given(st.lists(st.tuples(METHODS, bodies), min_size=1, max_size=3), st.lists(st.integers(0), max_size=6))
def test_any_method_goes_through(messages, cuts):
    data, lines = b"", []
    for method, parts in messages:
        body = b"".join(parts)
        lines.append(b"%b /a?b HTTP/1.1" % method.encode())
        data += b"%b\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (lines[-1], len(body), body)
    found, ended = read_all(pieces(data, cuts))
    assert ended
    assert found == [(line, b"".join(parts)) for line, (_, parts) in zip(lines, messages, strict=True)]


@pytest.mark.parametrize("method", [b"GET", b"BREW", b"PRI", b"X" * 32])
def test_a_method_in_pieces(method):
    data = b"\r\n%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method
    for cut in range(len(data)):
        assert read_all(pieces(data, [cut])) == ([(method + b" / HTTP/1.1", b"")], True)
    assert read_all([bytes((byte,)) for byte in data]) == ([(method + b" / HTTP/1.1", b"")], True)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\x16\x03\x01", 400),
        (b" / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"BREW\r\nHost: a\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"HTTP/1.1 200 OK\r\n\r\n", 400),
        (b"X" * 33, 501),
        (b"X" * 33 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
def test_methods_that_are_none(head, status):
    for packets in ([head], [bytes((byte,)) for byte in head]):
        with pytest.raises(MalformedError) as caught:
            read_all(packets)
        assert caught.value.status == status


SMALL = Limits(head_bytes=1024, head_fields=8, target_bytes=256)


def sized(target=1, fields=1, more=0):
    lines = [b"GET /%b HTTP/1.1" % (b"a" * (target - 1)), b"Host: a", *[b"X: y"] * (fields - 1)]
    data = b"\r\n".join(lines) + b"\r\n\r\n"
    return data[:-2] + b"X: %b\r\n\r\n" % (b"a" * (more - len(data) - 5)) if more else data


@pytest.mark.parametrize("packet", [10_000, 100, 1])
def test_limits_are_exact(packet):
    def status(data):
        packets = [data[i : i + packet] for i in range(0, len(data), packet)]
        try:
            found, ended = read_all(packets, SMALL)
        except MalformedError as error:
            return error.status
        assert (len(found), ended) == (1, True)
        return 200

    assert status(sized(target=256)) == 200
    assert status(sized(target=257)) == 414
    assert status(sized(fields=8)) == 200
    assert status(sized(fields=9)) == 431
    assert status(sized(more=1024)) == 200
    assert status(sized(more=1025)) == 431
    # What never ends is refused as well.
    assert status(b"GET /" + b"a" * 300) == 414
    assert status(b"GET / HTTP/1.1\r\nX: " + b"a" * 1024) == 431


def test_limits_hold_for_fields_that_repeat():
    reader = Reader(HttpRequestParser, SMALL)
    assert reader.head(sized(target=256), 0) > 0
    reader.expect(0)
    assert reader.head(sized(target=255), 0) > 0
    assert reader.same
    reader.expect(0)
    with pytest.raises(MalformedError) as caught:
        reader.head(sized(target=257), 0)
    assert caught.value.status == 414


ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "none": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(ANSWERS)), bodies), min_size=1, max_size=5),
    st.lists(st.integers(0), max_size=8),
)
def test_answers_are_parted_where_they_end(sent, cuts):
    data, expected = b"", []
    for kind, parts in sent:
        body = b"".join(parts) if kind in ("length", "chunks") else b""
        head = ANSWERS[kind] % len(body) if kind == "length" else ANSWERS[kind]
        data += head + (chunks(parts) if kind == "chunks" else body)
        expected.append((head.partition(b"\r\n")[0], body))
    reader, answer = Reader(HttpResponseParser), AnswerHead()
    found, body = [], None
    for packet in pieces(data, cuts):
        pos = 0
        while pos < len(packet):
            if body is None:
                pos = reader.head(packet, pos)
                if pos < 0:
                    break
                answer.read(reader.line, reader.headers, to_head=False, same=reader.same)
                reader.expect(answer.body, announced=True)
                body = b""
            if not reader.done:
                parts, pos = reader.body(packet, pos)
                body += b"".join(parts)
            if reader.done:
                found.append((reader.line, body))
                body = None
    assert found == expected


names = st.text(TOKEN, min_size=1, max_size=8).map(str.encode)
fields = st.lists(st.tuples(names, st.sampled_from([b"", b"a", b"b c"])), max_size=4)


@given(st.lists(st.tuples(bodies, fields), min_size=1, max_size=3), st.lists(st.integers(0), max_size=8))
def test_trailers_are_kept_apart_from_heads(messages, cuts):
    reader = Reader(HttpResponseParser)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    for parts, trailers in messages:
        lines = b"".join(b"%b: %b\r\n" % field for field in trailers)
        for packet in pieces(head + chunks(parts, trailers=lines), cuts):
            pos = 0
            if reader.done:
                pos = reader.head(packet, pos)
                if pos < 0:
                    continue
                assert reader.trailers == []
                reader.expect(CHUNKED)
            if pos < len(packet):
                pos = reader.body(packet, pos)[1]
                assert pos == len(packet)
        assert reader.done
        assert reader.headers == [(b"Transfer-Encoding", b"chunked"), (b"X", b"y")]
        assert reader.trailers == trailers
    assert reader.head(b"HTTP/1.1 204 No\r\n\r\n", 0) > 0
    assert reader.trailers == []


@pytest.mark.parametrize(
    "trailer", [b"Connection: close", b"Proxy-Connection: close", b"Connection: upgrade\r\nUpgrade: x"]
)
def test_trailers_say_nothing_of_the_next_message(trailer):
    data = CHUNKED_HEAD + chunks([b"a"], trailers=trailer + b"\r\n")
    found, ended = read_all([data, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", data])
    assert ([body for _, body in found], ended) == ([b"a", b"", b"a"], True)


def test_chunks_behind_an_upgrade_leave_the_head_as_it_is():
    """llhttp takes the rest for a tunnel; a second parser reads the chunks."""
    reader = Reader(HttpRequestParser)
    lines = (b"Host: a", b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked")
    head = b"\r\n".join((b"POST / HTTP/1.1", *lines, b"", b""))
    for _ in range(2):
        end = reader.head(head, 0)
        reader.expect(CHUNKED)
        assert len(reader.headers) == 4
        reader.body(chunks([b"a"], trailers=b"T: 1\r\n"), 0)
        assert (end, reader.done, reader.trailers) == (len(head), True, [(b"T", b"1")])


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


@given(st.integers(1, 3 * MAX_PARTS), st.integers(1, 3))
def test_small_chunks_are_read_in_turns(count, size):
    reader, body = Reader(HttpRequestParser), chunks([b"a" * size] * count)
    assert reader.head(CHUNKED_HEAD, 0) == len(CHUNKED_HEAD)
    reader.expect(CHUNKED)
    pos = found = 0
    while not reader.done:
        parts, pos = reader.body(body + b"NEXT", pos)
        assert len(parts) <= MAX_PARTS
        found += len(b"".join(parts))
    assert (pos, found) == (len(body), count * size)
