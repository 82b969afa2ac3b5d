"""The soak's pods: what they answer repeats the request's id in head and body.

`/size/N` answers N bytes, `/chunked/N` the same in chunks, `/up` checks a body of the id repeated, `/both`
sends it back, `/socket` becomes a WebSocket that echoes. What must never come is told on standard output.
"""

import asyncio
import random
import re
import sys
from typing import Final, cast

import uvloop
from bench.soak.ids import FIELD, repeated
from bench.soak.messages import accept_key, split_frame

_ID: Final = re.compile(rb"\r\n%b: ([0-9a-f]{16})\r\n" % FIELD, re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_KEY: Final = re.compile(rb"\r\nsec-websocket-key: ([^\r]+)\r\n", re.IGNORECASE)
_ANSWERS: Final = (20, 400)
"""After how many answers, at least and at most, a pod closes a connection."""
_CHUNK: Final = 4000
_PART: Final = 1 << 18
"""Bytes that are written at a time: a multiple of the id's."""


class Pod(asyncio.Protocol):
    """One connection."""

    def __init__(self, choice: random.Random) -> None:
        self._buffer = bytearray()
        self._left = choice.randint(*_ANSWERS)
        self._socket = False
        self._part = b""
        self._unsent = 0
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._socket:
            self._echo()
            return
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end == 3:
            return
        head = bytes(self._buffer[:end])
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(self._buffer) < end + size:
            return
        body = bytes(self._buffer[end : end + size])
        del self._buffer[: end + size]
        self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        found = _ID.search(head)
        if found is None or b"malformed" in head or self._buffer:
            print(f"a pod got what it must not: {head + self._buffer!r}"[:500], flush=True)
            self._transport.abort()
            return
        name = found[1]
        if target == b"/socket":
            self._socket = True
            key = _KEY.search(head)
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n%b: %b\r\n\r\n"
                % (accept_key(key[1] if key else b""), FIELD, name)
            )
            return
        self._left -= 1
        close = b"Connection: close\r\n" if not self._left else b""
        good = method != b"POST" or body == repeated(name, len(body))
        kind, _, number = target[1:].partition(b"/")
        size = len(body) if kind == b"both" else int(number or 16)
        start = b"HTTP/1.1 %b\r\n%b: %b\r\n%b" % (b"200 OK" if good else b"500 Mixed", FIELD, name, close)
        if kind == b"chunked":
            answer = repeated(name, size)
            parts = [answer[at : at + _CHUNK] for at in range(0, size, _CHUNK)]
            coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            self._transport.write(start + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n")
        else:
            self._transport.write(start + b"Content-Length: %d\r\n\r\n" % size)
            self._part, self._unsent = repeated(name, min(size, _PART)), size
        self._go_on()

    def _go_on(self) -> None:
        """Send what there is room for."""
        while self._unsent and not self._full:
            size = min(self._unsent, _PART)
            self._unsent -= size
            self._transport.write(self._part[:size])
        if not self._unsent and not self._left:
            self._transport.close()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._go_on()

    def _echo(self) -> None:
        while frame := split_frame(self._buffer):
            self._transport.write(bytes(frame))


async def serve(count: int, seed: int) -> None:
    """So many pods; their ports are the first line that is said."""
    loop = asyncio.get_running_loop()
    choice = random.Random(seed)
    servers = [
        await loop.create_server(lambda: Pod(choice), "127.0.0.1", 0, backlog=1024) for _ in range(count)
    ]
    print("pods at", *(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2])))
