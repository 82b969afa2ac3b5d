"""The fuzz target's checks on the corpus itself: they hold without a fuzzer, and do find what is wrong."""

import pytest
from tests.component.wire.corpus.build import every_request
from tests.fuzz import connection
from tests.fuzz.connection import check_cookie, check_stream


def test_the_corpus_passes():
    for message in every_request():
        if len(message.data) < 2048:
            check_stream(message.data + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", [7, len(message.data) - 3])


@pytest.mark.parametrize(
    "value", [b"sr=1", b"a=b; sr=1", b" sr =1;a", b"sr", b"sr=1;sr=2; c=sr=3", b";;sr=;", b"a=b;\tsr=1 ;c=d"]
)
def test_cookies_pass(value):
    check_cookie(value)


def test_it_sees_what_is_smuggled(monkeypatch):
    monkeypatch.setattr(connection, "chunk", lambda parts, **_: [*parts, b"GET /smuggled HTTP/1.1\r\n\r\n"])
    with pytest.raises(Exception, match=r"malformed|more than one|chunk line"):
        check_stream(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", []
        )
