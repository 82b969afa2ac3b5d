"""WebSocket round trips: a message up, a message back, on plain sockets with frames made beforehand."""

import select
import socket
from time import perf_counter
from typing import Final

from bench import site
from bench.load.wrk import LoadError

CLIENT_FRAME: Final = b"\x82\xfe" + site.MESSAGE.to_bytes(2, "big") + bytes(4) + b"m" * site.MESSAGE
"""A binary message, masked with zeros."""
SERVER_FRAME: Final = b"\x82\x7e" + site.MESSAGE.to_bytes(2, "big") + b"m" * site.MESSAGE

CONNECTIONS: Final = 2
"""Few: client and pod share a core, and take as long for a message as the proxy does."""


def run(port: int, cookies: str, seconds: float, *, connections: int = CONNECTIONS) -> int:
    """Round trips in so many seconds, one under way on each connection. Raises LoadError."""
    opened = [_open(port, cookies) for _ in range(connections)]
    try:
        return _run(opened, seconds)
    except OSError as error:
        raise LoadError(f"a WebSocket broke: {error}") from None
    finally:
        for sock in opened:
            sock.close()


def _open(port: int, cookies: str) -> socket.socket:
    sock = socket.create_connection((site.ADDRESS, port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    sock.sendall(site.request(site.SOCKET, cookies, *key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        part = sock.recv(65536)
        answer += part
        if not part:
            break
    if not answer.startswith(b"HTTP/1.1 101"):
        raise LoadError(f"no WebSocket: {answer[:100]!r}")
    sock.setblocking(False)
    return sock


def _run(opened: list[socket.socket], seconds: float) -> int:
    size = len(SERVER_FRAME)
    left = dict.fromkeys((sock.fileno() for sock in opened), size)
    sockets = {sock.fileno(): sock for sock in opened}
    trips = 0
    end = perf_counter() + seconds
    with select.epoll() as poll:
        for sock in opened:
            poll.register(sock, select.EPOLLIN)
            sock.send(CLIENT_FRAME)
        while perf_counter() < end:
            ready = poll.poll(5)
            if not ready:
                raise LoadError("no message came back within 5 s")
            for handle, _ in ready:
                sock = sockets[handle]
                got = len(sock.recv(size))
                if not got:
                    raise LoadError("a WebSocket was closed")
                left[handle] -= got
                if not left[handle]:
                    left[handle] = size
                    trips += 1
                    sock.send(CLIENT_FRAME)
    return trips
