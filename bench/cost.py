"""What metrics and the access log cost of a request, in what the processor does."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import machine, running, site
from bench.figures import Sample
from bench.instructions import Counter, best
from bench.peers import StickyRoute

from stickyroute_api.settings import AccessLog

_WARM_UP: Final = 300
"""Requests before those that count."""
_SETTLING: Final = 3.0
"""Seconds in which a start comes to its end, in a simulated processor too."""
_REST: Final = 2.0
"""Seconds without a request, to know what timers take."""


def measure(make: Callable[[], StickyRoute]) -> tuple[Sample, str]:
    """Percent of a request, and how it was counted; no `log` where no line is written. Raises StartError."""
    counter = best()
    full, lines = _spent(make(), counter)
    bare = make()
    bare.module = "bench.bare"
    without, _ = _spent(bare, counter)
    logging = make()
    logging.access_log = AccessLog(mode="All")
    logged, more = _spent(logging, counter)
    sample = {"request": full, "metrics": (full - without) / full * 100}
    if more - lines >= counter.requests:
        sample["log"] = (logged - full) / full * 100
    return sample, counter.unit


def _spent(proxy: StickyRoute, kind: type[Counter]) -> tuple[float, int]:
    """What one request takes, and how many lines the process has written."""
    proxy.variables["PYTHONHASHSEED"] = "0"  # chance in the order of sets is half a percent of a request
    with tempfile.TemporaryDirectory() as name, running.pods(Path(name)):
        folder = Path(name)
        counter = kind(folder)
        processes: list[subprocess.Popen[bytes]] = []
        with machine.running(processes):
            certificate = site.Certificate.make(folder)
            peer = running.start(proxy, folder, certificate, processes, counter.before)
            _ask(peer, _WARM_UP)
            time.sleep(_SETTLING)
            before = counter.spent(peer.pid, lambda: time.sleep(_REST))
            began = time.monotonic()
            spent = counter.spent(peer.pid, lambda: _ask(peer, kind.requests))
            took = time.monotonic() - began
            after = counter.spent(peer.pid, lambda: time.sleep(_REST))
            # Timers, which run without requests; what happens once in one of the two is none.
            spent -= min(before, after) * took / _REST
        return spent / kind.requests, (folder / f"{proxy.name}.log").read_bytes().count(b"\n")


def _ask(peer: running.Running, requests: int) -> None:
    """So many requests on one connection, one after another, and time to write of them."""
    with socket.create_connection((site.ADDRESS, peer.proxy.port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            sock.sendall(peer.request)
            answer = b""
            while not site.complete(answer):
                part = sock.recv(65536)
                if not part:
                    raise running.StartError(f"{peer.proxy.name} broke off an answer")
                answer += part
    time.sleep(1)
