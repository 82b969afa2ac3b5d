"""The pods: small answers behind `/`; behind `/bulk/` 1 MiB bodies, and a WebSocket that answers messages.

They share the load's core, so they are as cheap as can be: bodies go out from a file in memory and what comes
is dropped unread, which leaves the copying to the proxy alone. They look no closer than the bench needs.
"""

import base64
import hashlib
import os
import re
import select
import socket
from typing import Final

from bench import site
from bench.load.websocket import CLIENT_FRAME, SERVER_FRAME

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_KEY: Final = re.compile(rb"\r\nsec-websocket-key: *([^\r]+)\r\n", re.IGNORECASE)
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
_DONE: Final = _HEAD % 1 + b"x"
_LARGE: Final = _HEAD % site.MIB + b"x" * site.MIB
_TRASH: Final = memoryview(bytearray(site.MIB))


class Small:
    """A connection to a pod behind `/`: each part that comes is taken for a request."""

    __slots__ = ("_answer", "_recv", "_send", "sock")

    def __init__(self, sock: socket.socket, answer: bytes) -> None:
        self.sock = sock
        self._answer = answer
        self._recv = sock.recv_into
        self._send = sock.send

    def ready(self, _event: int) -> bool:
        """Take what has come; False: the proxy has closed."""
        if not self._recv(_TRASH, 65536, socket.MSG_TRUNC):
            return False
        self._send(self._answer)
        return True


class Bulk:
    """A connection to a pod behind `/bulk/`."""

    __slots__ = ("_file", "_head", "_in", "_out", "_part", "_poll", "_socket", "sock")

    def __init__(self, sock: socket.socket, poll: select.epoll, file: int) -> None:
        """`file` holds the large answer."""
        self.sock = sock
        self._poll = poll
        self._file = file
        self._head = b""
        self._in = 0  # bytes of a request's body that are still to come
        self._out = len(_LARGE)  # bytes of the large answer that have gone
        self._socket = False
        self._part = 0  # bytes of a message that has not come to its end

    def ready(self, event: int) -> bool:
        """Take what has come, or go on with an answer; False: the proxy has closed."""
        if event & select.EPOLLOUT:
            self._write()
            return True
        return self._read()

    def _read(self) -> bool:
        if self._socket:
            size = self.sock.recv_into(_TRASH)
            messages, self._part = divmod(self._part + size, len(CLIENT_FRAME))
            if messages:
                self.sock.sendall(SERVER_FRAME * messages)
        elif self._in:
            size = self.sock.recv_into(_TRASH, self._in, socket.MSG_TRUNC)
            self._in -= size
            if not self._in:
                self.sock.sendall(_DONE)
        else:
            data = self.sock.recv(65536)
            size = len(data)
            self._read_head(self._head + data)
        return size > 0

    def _read_head(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._head = data
            return
        self._head = b""
        if data.startswith(b"GET " + site.SOCKET.encode()):
            self._socket = True
            self.sock.sendall(_switching(data))
        elif data.startswith(b"GET " + site.DOWN.encode()):
            self._out = 0
            self._poll.modify(self.sock, select.EPOLLOUT)
        else:
            length = _LENGTH.search(data, 0, end)
            self._in = int(length[1]) - (len(data) - end) if length else 0
            if not self._in:
                self.sock.sendall(_DONE)

    def _write(self) -> None:
        left = len(_LARGE) - self._out
        self._out += os.sendfile(self.sock.fileno(), self._file, self._out, left)
        if self._out == len(_LARGE):
            self._poll.modify(self.sock, select.EPOLLIN)


def _small(port: int) -> bytes:
    """A pod's small answer, which tells the pod."""
    head = _HEAD.replace(b"\r\n\r\n", b"\r\n%s: %d\r\n\r\n")
    return head % (len(site.ANSWER), site.POD_FIELD.encode(), port) + site.ANSWER


def _switching(head: bytes) -> bytes:
    key = _KEY.search(head)
    accept = base64.b64encode(hashlib.sha1((key[1] if key else b"") + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


def serve() -> None:
    file = os.memfd_create("large")
    os.write(file, _LARGE)
    poll = select.epoll()
    listeners: dict[int, tuple[socket.socket, bytes]] = {}
    for port in (*site.PODS, *site.BULK_PODS):
        listener = socket.create_server((site.ADDRESS, port), backlog=1024)
        listeners[listener.fileno()] = listener, _small(port) if port in site.PODS else b""
        poll.register(listener, select.EPOLLIN)
    connections: dict[int, Small | Bulk] = {}
    while True:
        for handle, event in poll.poll():
            connection = connections.get(handle)
            if connection is None:
                listener, answer = listeners[handle]
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[sock.fileno()] = Small(sock, answer) if answer else Bulk(sock, poll, file)
                poll.register(sock, select.EPOLLIN)
                continue
            try:
                alive = connection.ready(event)
            except OSError:
                alive = False
            if not alive:
                del connections[handle]
                connection.sock.close()


if __name__ == "__main__":
    serve()
