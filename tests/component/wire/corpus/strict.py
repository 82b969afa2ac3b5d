"""A strict reader of HTTP/1.1 (RFC 9110, RFC 9112), independent of the one under test and of h11.

Grammar and nothing else: what the RFCs let a recipient repair is malformed here. It reads whole messages from
bytes, and serves as a referee, not as a parser of speed.
"""

import re
from typing import NamedTuple

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""RFC 9110 §5.6.2"""
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]+) HTTP/1\.([01])" % TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD = re.compile(
    rb"(%b):[\t ]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[\t ]*" % TOKEN
)
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)((?:;%b(?:=(?:%b|%b))?)*)" % (TOKEN, TOKEN, _QUOTED))
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]*)?")


class MalformedError(Exception):
    """The bytes are no HTTP message."""


class IncompleteError(Exception):
    """The bytes end within a message."""


class Message(NamedTuple):
    """One message, understood."""

    start: tuple[bytes, bytes, bytes]
    """Method, target, minor version; or minor version, status, phrase."""
    fields: list[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes
    trailers: list[tuple[bytes, bytes]]
    raw: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]


def read_request(data: bytes, pos: int = 0) -> tuple[Message, int]:
    """The request that begins there, and the position behind it."""
    line, fields, body = _head(data, pos)
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise MalformedError(f"request line {line!r}")
    method, target, minor = found.groups()
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (minor == b"1" and not hosts):
        raise MalformedError(f"{len(hosts)} Host fields")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise MalformedError(f"Host {hosts[0]!r}")
    length = _framing(fields, minor)
    content, trailers, end = _body(data, body, 0 if length is None else length)
    return Message((method, target, minor), fields, content, trailers, data[pos:end]), end


def read_answer(data: bytes, pos: int, *, to_head: bool, ended: bool) -> tuple[Message, int]:
    """The answer that begins there, interim or final; `ended`: the connection has ended behind the bytes."""
    line, fields, body = _head(data, pos)
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise MalformedError(f"status line {line!r}")
    minor, status, phrase = found.groups()
    length = _framing(fields, minor)
    if to_head or status in (b"204", b"304") or status[:1] == b"1":
        length = 0
    if length is None:
        if not ended:
            raise IncompleteError
        content, trailers, end = data[body:], [], len(data)
    else:
        content, trailers, end = _body(data, body, length)
    return Message((minor, status, phrase), fields, content, trailers, data[pos:end]), end


_CHUNKED = -1


def _head(data: bytes, pos: int) -> tuple[bytes, list[tuple[bytes, bytes]], int]:
    end = data.find(b"\r\n\r\n", pos)
    if end < 0:
        raise IncompleteError
    line, *lines = data[pos:end].split(b"\r\n")
    return line, [_field(one) for one in lines], end + 4


def _field(line: bytes) -> tuple[bytes, bytes]:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise MalformedError(f"field {line!r}")
    return found[1].lower(), found[2]


def _framing(fields: list[tuple[bytes, bytes]], minor: bytes) -> int | None:
    """RFC 9112 §6.3: a length, chunked, or None where neither is said."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings:
        if lengths or len(codings) > 1 or codings[0].lower() != b"chunked" or minor == b"0":
            raise MalformedError(f"framing by {lengths} and {codings}")
        return _CHUNKED
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
        raise MalformedError(f"framing by {lengths}")
    return int(lengths[0])


def _body(data: bytes, pos: int, length: int) -> tuple[bytes, list[tuple[bytes, bytes]], int]:
    if length != _CHUNKED:
        if len(data) < pos + length:
            raise IncompleteError
        return data[pos : pos + length], [], pos + length
    content = b""
    while True:
        line, pos = _line(data, pos)
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise MalformedError(f"chunk line {line!r}")
        size = int(found[1], 16)
        if not size:
            break
        if len(data) < pos + size + 2:
            raise IncompleteError
        content += data[pos : pos + size]
        pos += size
        if data[pos : pos + 2] != b"\r\n":
            raise MalformedError("chunk is longer than its size")
        pos += 2
    trailers = []
    while True:
        line, pos = _line(data, pos)
        if not line:
            return content, trailers, pos
        trailers.append(_field(line))


def _line(data: bytes, pos: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", pos)
    if end < 0:
        raise IncompleteError
    return data[pos:end], end + 2
