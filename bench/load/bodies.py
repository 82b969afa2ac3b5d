"""Closed loop of 1 MiB bodies, down and up; what comes is dropped unread, to spare the load's core."""

import os
import select
import socket
from time import perf_counter
from typing import Final

from bench import site
from bench.load.wrk import Answered, LoadError

CONNECTIONS: Final = 8
_TRASH: Final = memoryview(bytearray(site.MIB))
_LENGTH: Final = (f"Content-Length: {site.MIB}", "Content-Type: application/octet-stream")


class _Connection:
    """One request under way."""

    __slots__ = ("_file", "_poll", "_request", "_up", "left", "out", "sock")

    def __init__(self, port: int, request: bytes, poll: select.epoll, file: int) -> None:
        """`file` holds a request with its body; -1: the request has none."""
        self.sock = socket.create_connection((site.ADDRESS, port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self._request = request
        self._poll = poll
        self._file = file
        self._up = file >= 0
        self.left = -1  # bytes of the answer; -1: its head has not come
        self.out = 0  # bytes of the request that have gone
        poll.register(self.sock, select.EPOLLIN)

    def begin(self) -> None:
        self.left = -1
        if self._up:
            self.out = 0
            self._poll.modify(self.sock, select.EPOLLOUT)
        else:
            self.sock.send(self._request)

    def write(self) -> None:
        size = len(self._request) + site.MIB
        self.out += os.sendfile(self.sock.fileno(), self._file, self.out, size - self.out)
        if self.out == size:
            self._poll.modify(self.sock, select.EPOLLIN)

    def read(self) -> bool:
        """Whether the answer has come to its end."""
        if self.left > 0:
            size = self.sock.recv_into(_TRASH, self.left, socket.MSG_TRUNC)
            if not size:
                raise LoadError("an answer was broken off")
            self.left -= size
        else:
            data = self.sock.recv(16 * 1024)
            end = data.find(b"\r\n\r\n")
            if not data.startswith(b"HTTP/1.1 200") or end < 0:
                raise LoadError(f"no good answer: {data[:100]!r}")
            self.left = (1 if self._up else site.MIB) - (len(data) - end - 4)
        return not self.left


def run(port: int, cookies: str, seconds: float, *, up: bool) -> Answered:
    """Bodies in so many seconds. Raises LoadError."""
    file = -1
    if up:
        request = site.request(site.UP, cookies, *_LENGTH, method="POST")
        file = os.memfd_create("request")
        os.write(file, request + bytes(site.MIB))
    else:
        request = site.request(site.DOWN, cookies)
    with select.epoll() as poll:
        opened = [_Connection(port, request, poll, file) for _ in range(CONNECTIONS)]
        try:
            return _run({each.sock.fileno(): each for each in opened}, poll, seconds)
        except OSError as error:
            raise LoadError(f"a connection broke: {error}") from None
        finally:
            for connection in opened:
                connection.sock.close()
            if up:
                os.close(file)


def _run(connections: dict[int, _Connection], poll: select.epoll, seconds: float) -> Answered:
    done = 0
    start = perf_counter()
    for connection in connections.values():
        connection.begin()
    while perf_counter() < start + seconds:
        ready = poll.poll(10)
        if not ready:
            raise LoadError("nothing came within 10 s")
        for handle, event in ready:
            connection = connections[handle]
            if event & select.EPOLLOUT:
                connection.write()
            elif connection.read():
                done += 1
                connection.begin()
    return Answered(done, perf_counter() - start)
