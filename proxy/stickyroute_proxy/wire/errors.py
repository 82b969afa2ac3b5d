"""Answers of our own: small, in HTML, JSON or plain text as the client accepts, with the request's id."""

from functools import lru_cache
from html import escape
from http import HTTPStatus
from json import dumps
from re import compile as regex
from typing import Final

RETRY_AFTER: Final = 1
"""Seconds that a 503 or 429 asks to wait: an endpoint is usually back within them."""

RETRIED: Final = frozenset((429, 503))
"""The statuses that always say so."""

_ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
"""Of 405, which CONNECT and TRACE get, and of OPTIONS that goes no further: what nearly every endpoint
serves; other methods go on as well."""

_HTML, _JSON, _TEXT = b"text/html; charset=utf-8", b"application/json", b"text/plain; charset=utf-8"
_OFFERS: Final = ((_HTML, b"text/html"), (_JSON, b"application/json"), (_TEXT, b"text/plain"))
_WEIGHT: Final = regex(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_MAX_ACCEPT: Final = 1024
"""How many bytes of Accept are looked at."""
_MAX_RANGES: Final = 32
"""How many of its elements."""


def answer(
    status: int,
    message: str,
    *,
    accept: bytes,
    request_id: bytes,
    extra: bytes,
    body: bool,
    location: bytes = b"",
) -> bytes:
    """A complete answer.

    `extra`: further complete head lines; `body`: false for an answer to HEAD; `location`: of a redirect.
    """
    phrase = _phrase(status)
    kind = negotiated(accept[:_MAX_ACCEPT])
    payload = _body(kind, status, message, request_id.decode("ascii"), location.decode("ascii"))
    if status in RETRIED:
        extra = b"Retry-After: %d\r\n" % RETRY_AFTER + extra
    elif status in (200, 405):
        extra = _ALLOW + extra
    elif location:
        extra = b"Location: %b\r\n" % location + extra
    head = (
        b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
        b"X-Request-Id: %b\r\n%b\r\n"
    ) % (status, phrase.encode(), kind, len(payload), request_id, extra)
    return head + payload if body else head


@lru_cache(maxsize=256)
def negotiated(accept: bytes) -> bytes:
    """The media type for an Accept (RFC 9110, section 12.5.1).

    HTML for who names it, as browsers do, JSON for who names that or any `+json`, and plain text for all
    others: they are mostly terminals and logs.
    """
    weights: dict[bytes, float] = {}
    for element in accept.lower().split(b",", _MAX_RANGES)[:_MAX_RANGES]:
        media, *parameters = [part.strip(b" \t") for part in element.split(b";")]
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition(b"=")
            if name == b"q":
                weight = float(value) if _WEIGHT.fullmatch(value) else 0.0
        if media.endswith(b"+json"):
            media = b"application/json"
        weights[media] = max(weight, weights.get(media, 0.0))
    best, found = (0.0, 0, 0), _TEXT
    for rank, (kind, name) in enumerate(_OFFERS):
        ranges = (name, name.partition(b"/")[0] + b"/*", b"*/*")
        level, media = next(((2 - at, one) for at, one in enumerate(ranges) if one in weights), (0, b""))
        key = (weights.get(media, 0.0), level, -rank if level else rank)
        if key[0] and key > best:
            best, found = key, kind
    return found


@lru_cache(maxsize=256)
def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        # A route may name any; what it means is known by the first digit (RFC 9110, section 15).
        return "Client Error" if status < 500 else "Server Error"


def _body(kind: bytes, status: int, message: str, identity: str, location: str) -> bytes:
    phrase = _phrase(status)
    if kind is _JSON:
        told = {"status": status, "error": phrase, "message": message, "requestId": identity}
        if location:
            told["location"] = location
        return dumps(told).encode() + b"\n"
    if kind is _HTML:
        link = f'<p><a href="{escape(location)}">{escape(location)}</a></p>' if location else ""
        return (
            f"<!doctype html><title>{status} {phrase}</title><h1>{status} {phrase}</h1>"
            f"<p>{escape(message)}</p>{link}<p>Request {escape(identity)}</p>\n"
        ).encode()
    lines = [f"{status} {phrase}: {message}", *([location] if location else []), f"request {identity}"]
    return "".join(f"{line}\n" for line in lines).encode()
