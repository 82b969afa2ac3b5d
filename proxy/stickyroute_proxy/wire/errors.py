"""Answers of our own: small, in HTML or JSON as the client accepts, with the request's id."""

from email.utils import formatdate
from html import escape
from http import HTTPStatus
from json import dumps
from typing import Final

RETRY_AFTER: Final = 1
"""Seconds that a 503 asks to wait: an endpoint is usually back within them."""


def answer(status: int, message: str, *, accept: bytes, request_id: bytes, extra: bytes, body: bool) -> bytes:
    """A complete answer. `extra`: further complete head lines; `body`: false for an answer to HEAD."""
    phrase = HTTPStatus(status).phrase
    identity = request_id.decode("ascii")
    if b"application/json" in accept.lower():
        kind = b"application/json"
        text = dumps({"status": status, "error": phrase, "message": message, "requestId": identity}) + "\n"
    else:
        kind = b"text/html; charset=utf-8"
        text = (
            f"<!doctype html><title>{status} {phrase}</title><h1>{status} {phrase}</h1>"
            f"<p>{escape(message)}</p><p>Request {escape(identity)}</p>\n"
        )
    payload = text.encode()
    retry = b"Retry-After: %d\r\n" % RETRY_AFTER if status == 503 else b""
    head = (
        b"HTTP/1.1 %d %b\r\nDate: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
        b"X-Request-Id: %b\r\n%b%b\r\n"
    ) % (
        status,
        phrase.encode(),
        formatdate(usegmt=True).encode(),
        kind,
        len(payload),
        request_id,
        retry,
        extra,
    )
    return head + payload if body else head
