"""Answers of our own: each client gets a form that it asked for, with the request's id."""

import json

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_proxy.wire import errors

HTML, JSON, TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


def told(status=503, message="no <endpoint>", **given):
    given = {"accept": b"", "request_id": b"<id>", "extra": b"X-Extra: 1\r\n", "body": True} | given
    return errors.answer(status, message, **given)


def read(data, method="GET"):
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    response, body = connection.next_event(), b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        body += bytes(event.data)
    return response.status_code, {name.decode(): value.decode() for name, value in response.headers}, body


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("image/png", TEXT),
        (CHROME, HTML),
        ("text/html", HTML),
        ("TEXT/HTML", HTML),
        ("text/*", HTML),
        ("application/json", JSON),
        ("application/*", JSON),
        ("application/json, text/plain, */*", JSON),
        ("application/problem+json", JSON),
        ("application/vnd.api+json;q=0.5, */*;q=0.1", JSON),
        ("text/html;q=0.5, application/json", JSON),
        ("text/html, application/json;q=0.9", HTML),
        ("text/html;q=0, */*", TEXT),
        ("text/html;q=0.1, */*", TEXT),
        ("text/html;q=0", TEXT),
        ("text/html;level=1;q=0.3, application/json;q=0.2", HTML),
        ("text/html;q=nonsense, application/json;q=0.2", JSON),
        ("text/html ; q=0.2 , application/json ; q=0.3", JSON),
        (",;=,", TEXT),
    ],
)
def test_the_form_that_was_asked_for(accept, kind):
    status, headers, body = read(told(accept=accept.encode()))
    assert (status, headers["content-type"]) == (503, kind)
    assert headers["x-request-id"] == "<id>"
    assert headers["x-extra"] == "1"
    assert headers["cache-control"] == "no-store"
    if kind == JSON:
        assert json.loads(body) == {
            "status": 503,
            "error": "Service Unavailable",
            "message": "no <endpoint>",
            "requestId": "<id>",
        }
    elif kind == HTML:
        assert b"no &lt;endpoint&gt;" in body
        assert b"&lt;id&gt;" in body
        assert b"<id>" not in body
    else:
        assert body == b"503 Service Unavailable: no <endpoint>\nrequest <id>\n"


@given(st.binary(max_size=40) | st.sampled_from([b"text/html", b"*/*"]).map(lambda one: one * 1000))
def test_any_accept_is_answered(accept):
    assert read(told(accept=accept))[0] == 503


def test_an_answer_to_head_has_no_body():
    status, headers, body = read(told(body=False), "HEAD")
    assert (status, body) == (503, b"")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("status", [400, 404, 405, 408, 413, 414, 417, 429, 431, 501, 502, 503, 504, 505])
def test_what_a_status_carries(status):
    headers = read(told(status))[1]
    assert ("retry-after" in headers) == (status in (429, 503))
    assert ("allow" in headers) == (status == 405)


@pytest.mark.parametrize(
    ("accept", "shown"), [("", '/?a="<'), (CHROME, "/?a=&quot;&lt;"), ("application/json", "")]
)
def test_a_redirect_says_where_to(accept, shown):
    location = b'https://a/?a="<'
    status, headers, body = read(told(308, "elsewhere", accept=accept.encode(), location=location))
    assert (status, headers["location"]) == (308, location.decode())
    if shown:
        assert shown.encode() in body
    else:
        assert json.loads(body)["location"] == location.decode()


def test_an_accept_without_end_is_not_read_to_its_end():
    assert errors.negotiated(b"a," * 31 + b"application/json").startswith(b"application/json")
    assert errors.negotiated(b"a," * 32 + b"application/json").startswith(b"text/plain")
