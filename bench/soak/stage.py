"""The processes of a soak: a proxy that is pushed to over mutual TLS, its pods, and its metrics."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

from bench import machine, site
from bench.peers.stickyroute import StickyRoute
from bench.running import StartError
from bench.soak.fleet import FLEET, Fleet

from stickyroute_api.control import Role
from stickyroute_operator import pki
from stickyroute_operator.publish import ProxyAddress, Publisher

PODS: Final = 8
_PATIENCE: Final = 20.0
_READY: Final = re.compile(
    r"clients at \S+:(\d+) and by TLS at \S+:(\d+), control at \S+:(\d+), admin at \S+:(\d+)"
)
_AMISS: Final = re.compile(r"warning|error|Traceback|must not", re.IGNORECASE)
_PODS: Final = re.compile(r"^pods at ([\d ]+)$", re.MULTILINE)
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)

GAUGES: Final = {
    "client connections": "stickyroute_connections_open",
    "exchanges": "stickyroute_exchanges",
    "tunnels": "stickyroute_tunnels",
    "queued requests": "stickyroute_queued",
    "connections to pods": "stickyroute_upstream_connections",
    "open files": "process_open_fds",
    "tasks": "stickyroute_tasks",
}
"""What returns to its idle count."""
MEMORY: Final = "process_resident_memory_bytes"
REQUESTS: Final = "stickyroute_requests_total"
SHED: Final = "stickyroute_shed_total"


@dataclass(slots=True)
class Stage:
    """A proxy that serves, and what leads to it."""

    process: subprocess.Popen[bytes]
    port: int
    tls_port: int
    admin: int
    fleet: Fleet
    publisher: Publisher
    folder: Path

    async def push(self) -> None:
        """Let pods come and go. Raises TimeoutError where the proxy does not take it."""
        wanted = self.fleet.next(time.time())
        self.publisher.publish(wanted)
        async with asyncio.timeout(10):
            while self.publisher.proxies["proxy-0"].acked != wanted.version:  # noqa: ASYNC110 - polls once
                await asyncio.sleep(0.02)

    async def metrics(self) -> dict[str, float]:
        """Sums of all samples by name."""
        reader, writer = await asyncio.open_connection(site.ADDRESS, self.admin)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        found: dict[str, float] = {}
        for name, value in _SAMPLE.findall(text):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    async def idle_counts(self) -> dict[str, float]:
        """What an idle proxy holds."""
        read = await self.metrics()
        threads = _threads(self.process.pid)
        return {name: read[metric] for name, metric in GAUGES.items()} | {"threads": float(threads)}

    def told(self) -> list[str]:
        """What the proxy and the pods said that must not be: warnings, errors, tracebacks."""
        return [
            f"the {name} said: {line}"
            for name in ("proxy", "pods")
            for line in (self.folder / f"{name}.log").read_text().splitlines()
            if _AMISS.search(line)
        ]


@asynccontextmanager
async def stage(folder: Path, seed: int) -> AsyncIterator[Stage]:
    """Everything in place while the block runs. Raises StartError."""
    processes: list[subprocess.Popen[bytes]] = []
    ours = StickyRoute()
    path = os.pathsep.join([ours.environment["PYTHONPATH"], str(site.ROOT)])
    environment = {**ours.environment, "PYTHONPATH": path}
    now = datetime.now(UTC)
    authority = pki.issue_ca(FLEET, now)
    for name, content in pki.leaf_data(authority, pki.issue(authority, FLEET, Role.PROXY, now)).items():
        (folder / name).write_bytes(content)
    any_port = f"{site.ADDRESS}:0"
    with machine.running(processes):
        pods = machine.start(
            "pods",
            machine.LOAD_CORE,
            [sys.executable, "-m", "bench.soak.origin", str(PODS), str(seed)],
            folder,
            environment,
        )
        processes.append(pods)
        proxy = machine.start(
            "proxy",
            machine.PROXY_CORE,
            [
                *(sys.executable, "-m", "stickyroute_proxy", "--class-name", FLEET, "--name", "proxy-0"),
                *("--http", any_port, "--https", any_port, "--control", any_port, "--admin", any_port),
                *("--drain", any_port),
                *("--tls-dir", str(folder), "--drain-delay", "0s", "--grace", "1s"),
            ],
            folder,
            environment,
        )
        processes.append(proxy)
        (ports,) = await _said(_PODS, pods, folder / "pods.log")
        port, tls_port, control, admin = map(int, await _said(_READY, proxy, folder / "proxy.log"))
        leaf = pki.issue(authority, FLEET, Role.OPERATOR, now)
        identity = pki.Identity(FLEET, authority.certificate_pem, leaf.certificate_pem, leaf.key_pem)
        context = identity.client_context()
        publisher = Publisher(FLEET, lambda: context, lambda: None)
        publisher.target({"proxy-0": ProxyAddress(site.ADDRESS, control)})
        fleet = Fleet([int(one) for one in ports.split()], Random(f"{seed}/fleet"))
        made = Stage(proxy, port, tls_port, admin, fleet, publisher, folder)
        try:
            await made.push()
            yield made
        finally:
            await publisher.close()


def _threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


async def _said(pattern: re.Pattern[str], process: subprocess.Popen[bytes], log: Path) -> tuple[str, ...]:
    """What a process says when it serves."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if found := pattern.search(log.read_text()):  # noqa: ASYNC240 - nothing else runs yet
            return found.groups()
        await asyncio.sleep(0.05)
    text = log.read_text()  # noqa: ASYNC240
    raise StartError(f"no start of {log.stem}: {text[-2000:]}")
