"""Peers that have been started, and the pods behind them."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import machine, site
from bench.peers.peer import Peer

START: Final = 20.0
"""Seconds that a process may take until it serves."""


@dataclass(slots=True)
class Running:
    """One peer that serves."""

    proxy: Peer
    pid: int
    idle_memory: int
    """Bytes, before the first request."""
    log: Path
    given: dict[str, str] = field(default_factory=dict)
    """The cookies that the browser holds, by name."""

    @property
    def cookies(self) -> str:
        """What a client of `/` and of `/bulk/` sends back."""
        return self.proxy.cookies or "; ".join(f"{name}={value}" for name, value in self.given.items())

    def visit(self) -> None:
        """Keep the cookies that it gives now, as a browser does. Raises StartError.

        A key that has aged is answered with a fresh one: whoever went on showing the old one would have a
        proxy make another for each request.
        """
        for path in (site.PATH, "/bulk/"):
            answer = _ask(self.proxy, path, self.cookies, self.log)
            pair = (answer.getheader("set-cookie") or "").partition(";")[0]
            name, given, value = pair.partition("=")
            if given:
                self.given[name] = value

    def url(self, path: str) -> str:
        return f"http://{site.ADDRESS}:{self.proxy.port}{path}"

    @property
    def request(self) -> bytes:
        """For a small answer."""
        return site.request(site.PATH, self.cookies)


class StartError(Exception):
    """A process does not serve; the text says what it said."""


@contextmanager
def pods(folder: Path) -> Iterator[None]:
    """The pods behind all peers, on the load's core, while the block runs. Raises StartError."""
    command = [sys.executable, "-m", "bench.origin"]
    process = machine.start("pods", machine.LOAD_CORE, command, folder, {"PYTHONPATH": str(site.ROOT)})
    with machine.running([process]):
        _await(site.BULK_PODS[-1], process, folder / "pods.log")
        yield


@contextmanager
def peers(proxies: Sequence[Peer], folder: Path) -> Iterator[list[Running]]:
    """The peers on the proxy's core while the block runs. Raises StartError."""
    certificate = site.Certificate.make(folder)
    processes: list[subprocess.Popen[bytes]] = []
    with machine.running(processes):
        yield [start(proxy, folder, certificate, processes) for proxy in proxies]


def start(
    proxy: Peer,
    folder: Path,
    certificate: site.Certificate,
    processes: list[subprocess.Popen[bytes]],
    before: Sequence[str] = (),
) -> Running:
    """Start one, and meet it as a client does; `before`: a command to run it under. Raises StartError."""
    proxy.write(folder, certificate)
    command = [*before, *proxy.command(folder)]
    process = machine.start(proxy.name, machine.PROXY_CORE, command, folder, proxy.environment)
    processes.append(process)
    log = folder / f"{proxy.name}.log"
    _await(proxy.port, process, log, START * (5 if before else 1))
    idle_memory = machine.memory(process.pid)
    peer = Running(proxy, process.pid, idle_memory, log)
    peer.visit()
    if (
        len(pods := {_ask(proxy, site.PATH, peer.cookies, log).getheader(site.POD_FIELD) for _ in range(12)})
        > 1
    ):
        raise StartError(f"{proxy.name} is not sticky: one cookie reached {len(pods)} pods")
    return peer


def _await(port: int, process: subprocess.Popen[bytes], log: Path, limit: float = START) -> None:
    """Return when the process listens on the port. Raises StartError."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((site.ADDRESS, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.5)  # what a start still does behind its listeners
            if process.poll() is None:
                return
            raise StartError(f"another process has port {port}; {log.stem} says:\n{log.read_text()[-2000:]}")
    raise StartError(f"nothing serves on port {port}; {log.stem} says:\n{log.read_text()[-2000:]}")


def _ask(proxy: Peer, path: str, cookies: str, log: Path) -> http.client.HTTPResponse:
    """The good answer on a connection of its own, which may take its time to come. Raises StartError."""
    answer = None
    for _ in range(50):
        connection = http.client.HTTPConnection(site.ADDRESS, proxy.port, timeout=10)
        try:
            connection.request(
                "GET", path, headers={"Host": site.HOST} | ({"Cookie": cookies} if cookies else {})
            )
            answer = connection.getresponse()
            if answer.status == 200:
                return answer
        except OSError as error:
            raise StartError(f"{proxy.name} gave no answer ({error}): {log.read_text()[-2000:]}") from None
        finally:
            connection.close()
        time.sleep(0.1)
    raise StartError(f"{proxy.name} answers {answer and answer.status} to {path}: {log.read_text()[-2000:]}")
