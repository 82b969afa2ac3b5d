"""Idle connections: each has had one answer, and waits."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack
from typing import Final

from bench import site
from bench.load.wrk import LoadError

_EACH: Final = 5000
"""Connections from one source address."""
_RESET: Final = pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing sends a reset, which leaves no port waiting for the next round."""
_PATIENCE: Final = 10.0
"""Seconds that one may take to open, and its answer to come."""


@contextmanager
def crowd(port: int, request: bytes, count: int) -> Iterator[None]:
    """So many idle connections while the block runs. Raises LoadError."""
    opened: list[socket.socket] = []
    try:
        for number in range(count):
            source = (f"127.0.1.{1 + number // _EACH}", 0)
            sock = socket.create_connection((site.ADDRESS, port), timeout=_PATIENCE, source_address=source)
            sock = _raised(sock)
            opened.append(sock)
            sock.sendall(request)
            answer = b""
            while not site.complete(answer):
                part = sock.recv(65536)
                answer += part
                if not part or not answer.startswith(b"HTTP/1.1 200"):
                    raise LoadError(f"connection {number:,} got no good answer: {answer[:100]!r}")
        yield
    except OSError as error:
        raise LoadError(f"{len(opened):,} connections could be opened, then: {error}") from None
    finally:
        for sock in opened:
            sock.close()


def _raised(sock: socket.socket) -> socket.socket:
    """The same under a high number: `select`, which other load waits with, takes only those below 1,024."""
    low = sock.detach()
    try:
        raised = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1024))
    finally:
        os.close(low)
    raised.settimeout(_PATIENCE)
    raised.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return raised
