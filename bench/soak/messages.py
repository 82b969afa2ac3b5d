"""Messages as the soak's clients and pods read them: strictly, and no more than they need."""

import base64
import hashlib
import struct
from dataclasses import dataclass
from typing import Final

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WrongError(Exception):
    """What came is not what had to come; the text says how."""


class UntimelyError(WrongError):
    """It came too early, too late or not at all; says something where this process itself kept time."""


@dataclass(slots=True)
class Answer:
    """One complete answer."""

    status: int
    fields: dict[bytes, bytes]
    """By lower-case name; of several, the last."""
    body: bytes = b""

    @property
    def closes(self) -> bool:
        return self.fields.get(b"connection", b"").lower() == b"close"


def take_answer(buffer: bytearray) -> Answer | None:
    """The answer that the buffer begins with, taken out of it; None: not all of it has come.

    Raises WrongError.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    line, *lines = bytes(buffer[:end]).split(b"\r\n")
    if not line.startswith(b"HTTP/1.1 ") or not line[9:12].isdigit():
        raise WrongError(f"no answer begins with {line[:60]!r}")
    fields = {}
    for one in lines:
        name, colon, value = one.partition(b":")
        if not colon:
            raise WrongError(f"no field: {one[:60]!r}")
        fields[name.lower()] = value.strip()
    answer = Answer(int(line[9:12]), fields)
    end += 4
    if answer.status == 101:
        del buffer[:end]
        return answer
    if fields.get(b"transfer-encoding") == b"chunked":
        taken = _take_chunks(buffer, end)
        if taken is None:
            return None
        answer.body, end = taken
    elif b"content-length" in fields:
        size = int(fields[b"content-length"])
        if len(buffer) < end + size:
            return None
        answer.body = bytes(buffer[end : end + size])
        end += size
    else:
        raise WrongError(f"an answer {answer.status} without a length")
    del buffer[:end]
    return answer


def _take_chunks(buffer: bytearray, at: int) -> tuple[bytes, int] | None:
    parts: list[bytes] = []
    while (end := buffer.find(b"\r\n", at)) >= 0:
        size = int(buffer[at:end], 16)
        at = end + 2 + size + 2
        if len(buffer) < at:
            return None
        if buffer[at - 2 : at] != b"\r\n":
            raise WrongError("a chunk does not end where it should")
        if not size:
            return b"".join(parts), at
        parts.append(bytes(buffer[end + 2 : at - 2]))
    return None


def frame(payload: bytes) -> bytes:
    """A client's binary message of 126 to 65,535 bytes, masked with zeros."""
    return b"\x82\xfe" + struct.pack("!H", len(payload)) + bytes(4) + payload


def split_frame(buffer: bytearray) -> bytes:
    """A server's message with the payload of the client's, which is taken out of the buffer; empty: none has
    come to its end.
    """
    if len(buffer) < 8:
        return b""
    size = struct.unpack_from("!H", buffer, 2)[0]
    if len(buffer) < 8 + size:
        return b""
    payload = bytes(buffer[8 : 8 + size])
    del buffer[: 8 + size]
    return b"\x82\x7e" + struct.pack("!H", size) + payload


def accept_key(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())
