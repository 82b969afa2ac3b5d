"""The pods behind `/bulk/`: 1 MiB bodies down and up, and a WebSocket that answers each message with one.

As cheap as it can be made here, for it shares the load's core: it looks no closer than the bench needs.
"""

import asyncio
import base64
import hashlib
import re
import socket
from asyncio import Transport
from typing import Final, cast

import uvloop
from bench import site
from bench.load.websocket import CLIENT_FRAME, SERVER_FRAME

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_KEY: Final = re.compile(rb"\r\nsec-websocket-key: *([^\r]+)\r\n", re.IGNORECASE)
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LARGE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % site.MIB + b"x" * site.MIB
_SMALL: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx"


class Origin(asyncio.BufferedProtocol):
    """One connection from a proxy."""

    _buffer = memoryview(bytearray(256 * 1024))  # of all connections: what comes is looked at once

    def __init__(self) -> None:
        self._left = 0  # of a request's body
        self._socket = False
        self._part = 0  # bytes of a message that has not come to its end
        self._head = b""

    def connection_made(self, transport: object) -> None:
        self._transport = cast("Transport", transport)
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio names it
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        if self._socket:
            messages, self._part = divmod(self._part + size, len(CLIENT_FRAME))
            if messages:
                self._transport.write(SERVER_FRAME * messages)
        elif self._left > size:
            self._left -= size
        elif self._left:
            self._left = 0
            self._transport.write(_SMALL)
        else:
            self._read(self._head + self._buffer[:size])

    def _read(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._head = data
            return
        self._head = b""
        if data.startswith(b"GET " + site.SOCKET.encode()):
            self._socket = True
            self._transport.write(_switching(data))
        elif data.startswith(b"GET " + site.DOWN.encode()):
            self._transport.write(_LARGE)
        else:
            length = _LENGTH.search(data, 0, end)
            self._left = int(length[1]) - (len(data) - end) if length else 0
            if self._left <= 0:
                self._transport.write(_SMALL)


def _switching(head: bytes) -> bytes:
    key = _KEY.search(head)
    accept = base64.b64encode(hashlib.sha1((key[1] if key else b"") + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


async def serve() -> None:
    loop = asyncio.get_running_loop()
    for port in site.BULK_PODS:
        await loop.create_server(Origin, site.ADDRESS, port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
