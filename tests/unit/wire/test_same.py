"""A head whose fields came before is understood as if it were the first."""

from httptools import HttpRequestParser, HttpResponseParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stickyroute_api.snapshot import Cookie
from stickyroute_proxy.affinity.carrier import OurCookie
from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import MalformedError, Reader

OURS = OurCookie(Cookie(name="sr"), None)
KINDS = Kinds(frozenset((b"x-lost",)))
SEPARATOR = b"\r\n"

LINES = [
    b"GET / HTTP/1.1",
    b"GET /a?b HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET /\xe9 HTTP/1.1",
    b"GET /a\tb HTTP/1.1",
    b"GET /a\rb HTTP/1.1",
    b"GET http://other/x HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"POST / HTTP/1.0",
    b"GET / HTTP/1.0",
    b"CONNECT a:1 HTTP/1.1",
    b"CONNECT / HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"BREW / HTTP/1.1",
    b"get / HTTP/1.1",
    b"B@D / HTTP/1.1",
    b"%b / HTTP/1.1" % (b"A" * 33),
    b"PRI * HTTP/2.0",
    b"PLAY / HTTP/1.1",
    b"B /" + b"a" * 17000 + b" HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET / HTTP/2.0",
]
FIELDS = [
    b"Host: a",
    b"Host: a\r\nContent-Length: 3\r\nX-Request-Id: me",
    b"Host: a\r\nTransfer-Encoding: chunked",
    b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket",
    b"Host: a\r\nTE: trailers\r\nExpect: 100-continue",
    b"Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3",
    b"Host: a\r\nConnection: close, X-A, X-Request-Id\r\nX-A: 1\r\nX-Request-Id: me",
    b"Host: a\r\nX-Lost: 1\r\nCookie: sr=1; b=2\r\nX-Forwarded-For: 1",
    b"Host: a\r\nProxy-Connection: close",
    b"X-A: 1",
]
FRAMED = {-1: b"1\r\na\r\n0\r\n\r\n", 3: b"abc", 0: b""}

requests = st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(FIELDS)), min_size=1, max_size=6)


def understood(reader, head, line, fields):
    """What becomes of a request: what goes upstream and its body, or None when it is refused."""
    data = line + SEPARATOR + fields + b"\r\n\r\n"
    try:
        pos = reader.head(data, 0)
        assert pos == len(data)
        head.read(reader.line, reader.headers, KINDS, same=reader.same)
        reader.expect(head.body)
        body = FRAMED[head.body]
        if not reader.done:
            parts, pos = reader.body(body + b"NEXT", 0)
            assert (b"".join(parts), pos) == (b"a" if head.body < 0 else b"abc", len(body))
        assert reader.done
    except MalformedError:
        return None
    given_id = head.request_id
    head.request_id = b"id"
    return (
        head.write(head.authority, OURS, b"x-lost", None, b"F: f\r\n"),
        given_id,
        head.host,
        head.path,
        head.query,
        head.keep_alive,
        head.websocket,
        head.http11,
        head.trailers,
        head.expect,
    )


@settings(max_examples=500)
@given(requests)
@example([(line, b"Host: a\r\nX-Request-Id: me") for line in (LINES[0], LINES[1], LINES[1], LINES[0])])
@example([(b"GET http://other/x HTTP/1.1", b"Host: a")] * 3)
@example([(b"GET / HTTP/1.1", b"Host: a"), (b"B@D / HTTP/1.1", b"Host: a")])
@example([(b"GET / HTTP/1.1", b"Host: a"), (b"%b / HTTP/1.1" % (b"A" * 33), b"Host: a")])
def test_requests(sent):
    reader, head = Reader(HttpRequestParser), RequestHead()
    for line, fields in sent:
        alone = understood(Reader(HttpRequestParser), RequestHead(), line, fields)
        assert understood(reader, head, line, fields) == alone
        if alone is None or not alone[5]:
            break  # the connection ends here


STATUS = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 103 Early Hints",
    b"HTTP/1.1 299 \xe9",
    b"HTTP/1.1 99 X",
    b"HTTP/2.0 200 OK",
]
ANSWERED = [
    b"Content-Length: 3\r\nX-A: 1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTrailer: X-A\r\nDate: now",
    b"X-A: 1",
    b"Content-Length: 0\r\nConnection: X-B, close\r\nX-B: 1",
    b"Cache-Control: no-cache\r\nContent-Type: text/event-stream\r\nContent-Length: 3",
]

answers = st.lists(
    st.tuples(st.sampled_from(STATUS), st.sampled_from(ANSWERED), st.booleans()), min_size=1, max_size=6
)


def answered(reader, answer, line, fields, to_head):
    data = line + SEPARATOR + fields + b"\r\n\r\n"
    try:
        assert reader.head(data, 0) == len(data)
        answer.read(reader.line, reader.headers, to_head=to_head, same=reader.same)
        reader.expect(answer.body, announced=True)
        if not reader.done:
            body = FRAMED.get(answer.body, b"abc")
            parts, pos = reader.body(body, 0)
            assert pos == len(body)
            assert b"".join(parts) == (b"a" if answer.body == -1 else b"abc")
    except MalformedError:
        return None
    return (
        answer.write(b"Set-Cookie: a=b\r\n", chunked=answer.body < 0),
        answer.status,
        answer.body,
        reader.done,
        answer.keep_alive,
        answer.cache_control,
        answer.long_lived,
        answer.dated,
        answer.trailer,
    )


@settings(max_examples=500)
@given(answers)
def test_answers(sent):
    reader, answer = Reader(HttpResponseParser), AnswerHead()
    for line, fields, to_head in sent:
        alone = answered(Reader(HttpResponseParser), AnswerHead(), line, fields, to_head)
        assert answered(reader, answer, line, fields, to_head) == alone
        if alone is None or not alone[3] or not alone[4]:
            break
