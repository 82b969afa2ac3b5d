"""Open loop: requests at a fixed rate, whatever the answers take.

Each latency counts from when its request was due, so that a stalled proxy's waiting requests count as slow
(no coordinated omission). Timers of event loops tick in milliseconds; `select` waits for microseconds.
"""

import gc
import select
import ssl
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from bench import site
from bench.load.channel import Channel, SecureChannel
from bench.load.handshake import client_context
from bench.load.wrk import LoadError

CONNECTIONS: Final = 64
WARM_UP: Final = 0.5
"""Seconds whose latencies do not count: the proxy opens its connections in them."""
_PATIENCE: Final = 10.0
"""Seconds after which an answer is given up."""


class Connection:
    """One that is kept alive, with at most one request under way."""

    __slots__ = ("due", "left", "recv", "sealed", "sock")

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        channel = SecureChannel(port, _PATIENCE, context) if context else Channel(port, _PATIENCE)
        self.sealed, self.recv, self.sock = channel.sealed, channel.recv, channel.sock
        self.sock.setblocking(False)
        self.due = 0.0
        self.left = 0  # bytes of the answer that have not come yet

    def take(self) -> bool:
        """Take what has come; whether the answer has come to its end. Raises LoadError."""
        while True:
            try:
                data = self.recv()
            except BlockingIOError:
                return False
            if self.left:
                self.left -= len(data)
            else:
                end = data.find(b"\r\n\r\n")
                if not data.startswith(b"HTTP/1.1 200") or end < 0:
                    raise LoadError(f"no good answer: {data[:100]!r}")
                self.left = len(site.ANSWER) - (len(data) - end - 4)
            if not self.left:
                return True


@contextmanager
def connections(port: int, *, tls: bool = False) -> Iterator[Sequence[Connection]]:
    """Open ones while the block runs. Raises LoadError."""
    opened: list[Connection] = []
    try:
        context = client_context() if tls else None
        opened += (Connection(port, context) for _ in range(CONNECTIONS))
        yield opened
    except OSError as error:
        raise LoadError(f"a connection broke: {error}") from None
    finally:
        for connection in opened:
            connection.sock.close()


def run(
    opened: Sequence[Connection], request: bytes, rate: int, seconds: float, *, burst: int = 1
) -> list[float]:
    """Latencies in seconds, sorted; `burst` requests are due at a time. Raises LoadError."""
    gc.collect()
    gc.disable()
    try:
        return sorted(_run(opened, request, rate, seconds, burst))
    finally:
        gc.enable()


def _run(opened: Sequence[Connection], request: bytes, rate: int, seconds: float, burst: int) -> list[float]:
    poll = select.epoll()
    by_handle = {}
    for connection in opened:
        by_handle[connection.sock.fileno()] = connection
        poll.register(connection.sock, select.EPOLLIN)
    free = deque(opened)
    handle = [poll.fileno()]
    latencies: list[float] = []
    first, total = round(WARM_UP * rate), requests(rate, seconds)
    sent = answered = 0
    start = perf_counter()
    with poll:
        while answered < total:
            now = perf_counter()
            batch = []
            while free and sent < total and (due := start + sent // burst * burst / rate) <= now:
                connection = free.popleft()
                connection.due = due
                batch.append((connection.sock, connection.sealed(request)))
                sent += 1
            for sock, data in batch:
                sock.send(data)
            next_due = start + sent // burst * burst / rate
            wait = max(0.0, next_due - perf_counter()) if free and sent < total else _PATIENCE
            if not select.select(handle, (), (), wait)[0]:
                if wait == _PATIENCE:
                    raise LoadError(f"no answer came within {_PATIENCE:g} s")
                continue
            for ready, _ in poll.poll(0):
                connection = by_handle[ready]
                if connection.take():
                    answered += 1
                    if answered > first:
                        latencies.append(perf_counter() - connection.due)
                    free.append(connection)
    return latencies


def requests(rate: int, seconds: float) -> int:
    """So many are sent in all, those of WARM_UP too."""
    return round((WARM_UP + seconds) * rate)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which so large a share of a sorted list lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
