"""What of a head goes on: nothing of ours from outside, everything else as it came."""

import string

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api.snapshot import Cookie
from stickyroute_proxy.affinity.carrier import NOTHING, OurCookie
from stickyroute_proxy.wire.answer import AnswerHead, chunk
from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.head import RequestHead

CARRIER = OurCookie(Cookie(name="sr"), None)
TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
NOTIFY = b"x-session-lost"
ADDED = b"X-Forwarded-For: 1.2.3.4\r\n"

OURS = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "transfer-encoding",
    "content-length",
    "x-forwarded-for",
    "x_forwarded_for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "x-session-lost",
    "X_Session_Lost",
    "x-Session_Lost",
    "http2-settings",
    "Content_Length",
    "proxy-authorization",
    "x_request_id",
    "transfer_encoding",
]
FRAMING = {"content-length", "transfer-encoding", "connection", "upgrade"}

names = st.text(TOKEN, min_size=1, max_size=12) | st.sampled_from(OURS).map(str)
values = st.binary(max_size=20).map(
    lambda value: bytes(byte for byte in value if byte > 31 and byte != 127).strip()
)
fields = st.lists(st.tuples(names, values), max_size=12).map(
    lambda found: [
        (name.encode(), value)
        for name, value in found
        if name.lower() not in FRAMING | {"host", "expect", "cookie"}
    ]
)


def written(headers, line=b"GET /a?b HTTP/1.1", notice=None):
    head = RequestHead()
    headers = [(b"Host", b"shop.example.com"), *headers]
    head.read(line, headers, Kinds(frozenset((NOTIFY,))))
    head.request_id = b"1"
    data = head.write(head.authority, CARRIER, NOTIFY, notice, ADDED)
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    return request


def normal(name):
    return name.lower().replace(b"_", b"-")


@given(fields)
def test_requests(headers):
    seen = list(written(headers).headers)
    ours = {normal(name.encode()) for name in OURS}
    assert seen[0] == (b"host", b"shop.example.com")
    assert seen[-1] == (b"x-request-id", b"1")
    passed = [
        (name.lower(), value)
        for name, value in headers
        if normal(name) not in ours and not normal(name).startswith(b"x-forwarded-")
    ]
    passed = [(name, value) for name, value in passed if normal(name) not in (b"host", b"cookie", b"expect")]
    assert seen[1:-2] == passed


@given(fields, st.lists(st.text(TOKEN, min_size=1, max_size=8), max_size=3))
def test_what_connection_names_goes_no_further(headers, nominated):
    tokens = [token.encode() for token in nominated]
    seen = {name for name, _ in written([*headers, (b"Connection", b" ,".join(tokens))]).headers}
    named = {token.lower() for token in tokens} - {b"host", b"cookie", b"x-request-id"}
    assert not seen & named


def test_a_client_cannot_nominate_what_is_ours():
    nominated = b"close, Host, Cookie, X-Forwarded-For, Content-Length"
    request = written(
        [(b"Connection", nominated), (b"Cookie", b"a=b"), (b"Content-Length", b"3")], b"POST / HTTP/1.1"
    )
    seen = dict(request.headers)
    assert (seen[b"cookie"], seen[b"content-length"]) == (b"a=b", b"3")


def test_proxy_connection_is_read_as_llhttp_reads_it():
    head = RequestHead()
    head.read(
        b"GET / HTTP/1.1", [(b"Host", b"a"), (b"Proxy-Connection", b"close, X-A"), (b"X-A", b"1")], Kinds()
    )
    assert not head.keep_alive
    assert b"X-A" not in head.write(b"a", NOTHING, NOTIFY, None, ADDED)
    answer = AnswerHead()
    answer.read(b"HTTP/1.1 200 OK", [(b"Proxy-Connection", b"close")], to_head=False)
    assert not answer.keep_alive


def test_another_rules_notice_can_be_nominated():
    head = RequestHead()
    kinds = Kinds(frozenset((NOTIFY, b"x-other")))
    fields = [(b"Host", b"a"), (b"X-Other", b"2"), (b"Connection", b"X-Other, X-Session-Lost")]
    head.read(b"GET / HTTP/1.1", fields, kinds)
    assert b"X-Other" not in head.write(b"a", NOTHING, NOTIFY, None, ADDED)


def test_a_nominated_request_id_is_none():
    head = RequestHead()
    fields = [(b"Host", b"a"), (b"X-Request-Id", b"mine"), (b"Connection", b"X-Request-Id")]
    kinds = Kinds()
    for same in (False, True):
        head.read(b"GET / HTTP/1.1", fields, kinds, same=same)
        assert head.request_id == b""


@pytest.mark.parametrize(("status", "to_head", "told"), [(204, False, 0), (304, False, 1), (200, True, 1)])
def test_a_length_goes_on_where_no_body_comes_but_not_behind_204(status, to_head, told):
    answer = AnswerHead()
    answer.read(b"HTTP/1.1 %d X" % status, [(b"Content-Length", b"5")], to_head=to_head)
    assert answer.body == 0
    assert answer.write(b"", chunked=False).count(b"\r\nContent-Length: 5\r\n") == told


def test_an_endpoint_cannot_nominate_cache_control():
    answer = AnswerHead()
    answer.read(
        b"HTTP/1.1 200 OK", [(b"Cache-Control", b"private"), (b"Connection", b"cache-control")], to_head=False
    )
    assert b"\r\nCache-Control: private\r\n" in answer.write(b"", chunked=False)


def test_the_notice_is_ours_alone_and_other_rules_notices_pass():
    head = RequestHead()
    kinds = Kinds(frozenset((NOTIFY, b"x-other")))
    headers = [(b"Host", b"a"), (b"X_Session_Lost", b"1"), (b"X-Other", b"2"), (b"x-session-lost", b"3")]
    head.read(b"GET / HTTP/1.1", headers, kinds)
    head.request_id = b"1"
    data = head.write(b"a", NOTHING, NOTIFY, b"PodTerminated", ADDED)
    assert data == (
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Other: 2\r\nX-Forwarded-For: 1.2.3.4\r\n"
        b"x-session-lost: PodTerminated\r\nX-Request-Id: 1\r\n\r\n"
    )


@given(st.lists(st.binary(max_size=12), max_size=4), st.booleans(), st.booleans())
def test_trailers_are_asked_for_by_who_takes_them(given_te, takes, http11):
    values = [bytes(byte for byte in value if byte > 31 and byte != 127) for value in given_te]
    values = [value for value in values if b"trailers" not in value.lower()]
    te = [(b"TE", value) for value in [*values, b"gzip;q=0.5 , Trailers"][: None if takes else -1]]
    request = written(te, b"GET / HTTP/1.%d" % http11)
    asked = [field for field in request.headers if field[0] in (b"te", b"connection")]
    assert asked == ([(b"connection", b"TE"), (b"te", b"trailers")] if takes and http11 else [])


def test_what_may_trail():
    forbidden = b"Content-Length Transfer-Encoding Host Set-Cookie Cookie Authorization Trailer TE Connection"
    ours = b"X-Request-Id X-Forwarded-For x_forwarded_proto Forwarded Content_Length"
    answer = AnswerHead()
    fields = [(b"Transfer-Encoding", b"chunked"), (b"Connection", b"X-Nominated, close")]
    fields.append((b"Trailer", b"grpc-status, Content-Length, X-Sum,"))
    answer.read(b"HTTP/1.1 200 OK", fields, to_head=False)
    assert answer.trailer == b"Trailer: grpc-status, x-sum\r\n"
    sent = [(name, b"1") for name in (forbidden + b" " + ours + b" x-nominated").split()]
    answer.take_trailers([*sent, (b"grpc-status", b"0"), (b"X-Sum", b"a b")])
    assert answer.trailers == b"grpc-status: 0\r\nX-Sum: a b\r\n"
    data = b"".join(chunk([b"abc"], last=True, trailers=answer.trailers))
    assert data == b"3\r\nabc\r\n0\r\ngrpc-status: 0\r\nX-Sum: a b\r\n\r\n"
    answer.read(b"HTTP/1.1 200 OK", [(b"Trailer", b"X")], to_head=False)
    assert (answer.trailer, answer.trailers) == (b"", b"")


def test_spellings_are_remembered_within_bounds():
    kinds = Kinds()
    assert kinds[b"x" * 65] == kinds[b"Content_Length" + b"x" * 60] == 0
    assert not kinds
    for number in range(10_000):
        assert kinds[b"x-%d" % number] == 0
    assert len(kinds) <= 4096
    assert kinds[b"Accept"] == 0
    assert b"Accept" in kinds
    assert kinds[b"HOST"] == Kinds()[b"host"]


@given(fields, st.sampled_from([200, 204, 304, 404, 599]), st.booleans())
def test_answers(headers, status, chunked):
    answer = AnswerHead()
    framing = [(b"Transfer-Encoding", b"chunked")] if chunked else [(b"Content-Length", b"0")]
    hop = {b"keep-alive", b"proxy-connection", b"trailer"}
    answer.read(b"HTTP/1.1 %d What" % status, headers + framing, to_head=False)
    data = answer.write(b"Set-Cookie: a=b\r\n", chunked=answer.body < 0)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    response = connection.next_event()
    assert (response.status_code, response.reason) == (status, b"What")
    kept = [(name.lower(), value) for name, value in headers if name.lower() not in hop]
    assert list(response.headers)[: len(kept)] == kept
    assert list(response.headers)[-1] == (b"set-cookie", b"a=b")
    assert sum(name in (b"content-length", b"transfer-encoding") for name, _ in response.headers) <= 1


@given(st.lists(st.binary(max_size=9), max_size=4), st.booleans())
def test_chunks(parts, last):
    data = b"".join(chunk(list(parts), last=last))
    body = b"".join(parts)
    assert data == (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if last else b"")
