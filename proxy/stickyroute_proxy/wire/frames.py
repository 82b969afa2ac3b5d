"""Where WebSocket frames end in a stream of bytes (RFC 6455, section 5.2). Payloads are not looked at."""

from typing import Final

GOING_AWAY: Final = b"\x88\x02\x03\xe9"
"""A server's Close frame with status 1001 (section 7.4.1)."""

_MASKED: Final = 0x80


class Frames:
    """Follows one direction from its first byte on."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._left = 0  # bytes of the present frame that are still to come
        self._head = b""  # the first bytes of a header that is not complete yet

    @property
    def between(self) -> bool:
        """Whether the last frame is complete and no other has begun."""
        return not self._left and not self._head

    def follow(self, data: bytes) -> None:
        """These bytes have come."""
        left = self._left - len(data)
        if left < 0:
            head = self._head
            if head:
                data = head + data
                left = -len(data)
                self._head = b""
            size = len(data)
            pos = size + left
            while pos < size:
                frame = length(data, pos)
                if not frame:
                    self._head = data[pos:]
                    pos = size
                    break
                pos += frame
            left = pos - size
        self._left = left

    def boundary(self, data: bytes) -> int:
        """Where in these bytes, which have come, a frame ends for the first time; 0: nowhere."""
        end = self._left
        if not end:
            whole = self._head + data
            frame = length(whole, 0)
            if not frame:
                self._head = whole
                return 0
            end = frame - len(self._head)
            self._head = b""
        self._left = max(0, end - len(data))
        return 0 if self._left else end


def length(data: bytes, pos: int) -> int:
    """Of the frame that begins there, its header included; 0: too little of it has come to tell."""
    known = len(data) - pos
    if known < 2:
        return 0
    size = data[pos + 1]
    header = 2
    if size >= _MASKED:
        size -= _MASKED
        header = 6
    if size < 126:
        return header + size
    if size == 126:
        return header + 2 + (data[pos + 2] << 8 | data[pos + 3]) if known >= 4 else 0
    return header + 8 + int.from_bytes(data[pos + 2 : pos + 10]) if known >= 10 else 0
