"""Idle connections: each has had one answer, and waits in a process of its own, which sleeps."""

import socket
import subprocess
import sys
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
_READY: Final = "ready\n"


@contextmanager
def crowd(port: int, request: bytes, count: int) -> Iterator[None]:
    """So many idle connections while the block runs. Raises LoadError."""
    command = [sys.executable, "-m", __name__, str(port), str(count), request.hex()]
    with subprocess.Popen(
        command, cwd=site.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = process.stdout.readline()
        if said != _READY:
            raise LoadError(said.strip() or "the process of the idle connections has ended")
        yield
        process.stdin.close()


def hold(port: int, request: bytes, count: int) -> None:
    """Open them, say so, and sleep until stdin ends. Raises LoadError."""
    opened = []
    try:
        for number in range(count):
            source = (f"127.0.1.{1 + number // _EACH}", 0)
            sock = socket.create_connection((site.ADDRESS, port), timeout=_PATIENCE, source_address=source)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            opened.append(sock)
            _ask(sock, request)
    except (OSError, LoadError) as error:
        raise LoadError(f"{len(opened):,} idle connections were opened, then: {error}") from None
    sys.stdout.write(_READY)
    sys.stdout.flush()
    sys.stdin.read()


def _ask(sock: socket.socket, request: bytes) -> None:
    sock.sendall(request)
    answer = b""
    while not site.complete(answer):
        part = sock.recv(65536)
        answer += part
        if not part or not answer.startswith(b"HTTP/1.1 200"):
            raise LoadError(f"no good answer: {answer[:100]!r}")


if __name__ == "__main__":
    try:
        hold(int(sys.argv[1]), bytes.fromhex(sys.argv[3]), int(sys.argv[2]))
    except LoadError as error:
        print(error)
