"""Open loop: requests at a fixed rate, whatever the answers take.

Each latency counts from when its request was due, so that a stalled proxy's waiting requests count as slow
(no coordinated omission). Timers of event loops tick in milliseconds; `select` waits for microseconds.
"""

import gc
import select
import socket
from collections import deque
from time import perf_counter
from typing import Final

from bench import site
from bench.load.wrk import LoadError

WARM_UP: Final = 0.5
"""Seconds whose latencies do not count: connections are opened in them."""
_PATIENCE: Final = 10.0
"""Seconds after which an answer is given up."""


class _Connection:
    __slots__ = ("due", "left", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((site.ADDRESS, port), timeout=_PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.due = 0.0
        self.left = 0  # bytes of the answer that have not come yet


def run(port: int, request: bytes, rate: int, seconds: float, *, connections: int = 64) -> list[float]:
    """Latencies in seconds, sorted. Raises LoadError."""
    opened = [_Connection(port) for _ in range(connections)]
    gc.collect()
    gc.disable()
    try:
        return sorted(_run(opened, request, rate, seconds))
    except OSError as error:
        raise LoadError(f"a connection broke: {error}") from None
    finally:
        gc.enable()
        for connection in opened:
            connection.sock.close()


def _run(opened: list[_Connection], request: bytes, rate: int, seconds: float) -> list[float]:
    poll = select.epoll()
    by_handle = {}
    for connection in opened:
        by_handle[connection.sock.fileno()] = connection
        poll.register(connection.sock, select.EPOLLIN)
    free = deque(opened)
    handle = [poll.fileno()]
    latencies: list[float] = []
    first, total = round(WARM_UP * rate), round((WARM_UP + seconds) * rate)
    sent = answered = 0
    start = perf_counter()
    with poll:
        while answered < total:
            now = perf_counter()
            while free and sent < total and (due := start + sent / rate) <= now:
                connection = free.popleft()
                connection.due = due
                connection.left = 0
                connection.sock.send(request)
                sent += 1
            wait = max(0.0, start + sent / rate - perf_counter()) if free and sent < total else _PATIENCE
            if not select.select(handle, (), (), wait)[0]:
                if wait == _PATIENCE:
                    raise LoadError(f"no answer came within {_PATIENCE:g} s")
                continue
            for ready, _ in poll.poll(0):
                connection = by_handle[ready]
                if _complete(connection, connection.sock.recv(65536)):
                    answered += 1
                    if answered > first:
                        latencies.append(perf_counter() - connection.due)
                    free.append(connection)
    return latencies


def _complete(connection: _Connection, data: bytes) -> bool:
    """Whether the answer has come to its end with this part."""
    if connection.left:
        connection.left -= len(data)
    else:
        end = data.find(b"\r\n\r\n")
        if not data.startswith(b"HTTP/1.1 200") or end < 0:
            raise LoadError(f"no good answer: {data[:100]!r}")
        connection.left = len(site.ANSWER) - (len(data) - end - 4)
    return not connection.left


def quantile(ordered: list[float], share: float) -> float:
    """The value below which so large a share of a sorted list lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
