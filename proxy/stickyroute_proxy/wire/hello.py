"""A ClientHello (RFC 8446, section 4.1.2): whom the client wants to speak to, and in which protocol.

Read before OpenSSL sees it, so that the handshake begins with the certificate of that name, and an offer of
other protocols only is refused, as RFC 7301 asks. All else in it is OpenSSL's to judge.
"""

from typing import Final, NamedTuple

MAX_HELLO: Final = 16 * 1024
MAX_RECORDS: Final = 16
"""How many records a ClientHello may come in."""
_HANDSHAKE: Final = b"\x16\x03"
"""What a record begins with: its type, and a version that is none."""
_CLIENT_HELLO: Final = b"\x01"
_SERVER_NAME, _PROTOCOLS = b"\x00\x00", b"\x00\x10"
_HOST_NAME: Final = b"\x00"


class Hello(NamedTuple):
    """What is asked for."""

    name: bytes
    """In lower case, without a trailing dot; empty: none."""
    protocols: tuple[bytes, ...]
    """The offer of ALPN; empty: none."""


class NoHelloError(Exception):
    """What came is no ClientHello."""


def read(data: bytes) -> Hello | None:
    """The ClientHello that `data` begins with, None: there is more to come. Raises NoHelloError."""
    message = _gather(data)
    return None if message is None else _understand(message)


def _gather(data: bytes) -> bytes | None:
    """The body of the first message, from the records that it came in."""
    message = b""
    pos = 0
    for _ in range(MAX_RECORDS):
        header = data[pos : pos + 5]
        if not _HANDSHAKE.startswith(header[:2]):
            raise NoHelloError
        if len(header) < 5:
            return None
        pos += 5 + int.from_bytes(header[3:])
        message += data[pos - int.from_bytes(header[3:]) : pos]
        if not _CLIENT_HELLO.startswith(message[:1]):
            raise NoHelloError
        if len(message) >= 4:
            end = 4 + int.from_bytes(message[1:4])
            if end > MAX_HELLO:
                raise NoHelloError
            if len(message) >= end:
                return message[4:end]
        if pos > len(data):
            return None
    raise NoHelloError


def _understand(message: bytes) -> Hello:
    _, pos = _vector(message, 2 + 32, 1)  # the session, behind version and random
    _, pos = _vector(message, pos, 2)  # cipher suites
    _, pos = _vector(message, pos, 1)  # compression methods
    name = b""
    protocols: tuple[bytes, ...] = ()
    extensions = _vector(message, pos, 2)[0] if pos < len(message) else b""
    pos = 0
    while pos < len(extensions):
        kind = extensions[pos : pos + 2]
        content, pos = _vector(extensions, pos + 2, 2)
        if kind == _SERVER_NAME:
            name = _host_name(_vector(content, 0, 2)[0])
        elif kind == _PROTOCOLS:
            protocols = _names(_vector(content, 0, 2)[0])
    return Hello(name, protocols)


def _host_name(names: bytes) -> bytes:
    """Of a server_name extension (RFC 6066, section 3); no other type of name has ever been defined."""
    if names[:1] != _HOST_NAME:
        raise NoHelloError
    return _vector(names, 1, 2)[0].lower().removesuffix(b".")


def _names(content: bytes) -> tuple[bytes, ...]:
    names = []
    pos = 0
    while pos < len(content):
        name, pos = _vector(content, pos, 1)
        names.append(name)
    return tuple(names)


def _vector(data: bytes, pos: int, width: int) -> tuple[bytes, int]:
    """The content behind a length of `width` bytes, and where it ends. Raises NoHelloError."""
    start = pos + width
    end = start + int.from_bytes(data[pos:start])
    if end > len(data):
        raise NoHelloError
    return data[start:end], end
