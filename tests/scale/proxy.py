"""A proxy process with its pods: three hosts, each with sessions of another kind."""

import asyncio
import os
import re
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from bench.peers.stickyroute import StickyRoute

from stickyroute_api import snapshot
from stickyroute_api.settings import Settings

BODY = b"\r\n\r\nserved by a pod\n"
"""What ends each answer, and stands nowhere else."""
PODS = 10
POLICIES = {
    "cookie": snapshot.Persistence(type="Cookie", cookie=snapshot.Cookie(name="sr"), idle_timeout=1800),
    "header": snapshot.Persistence(type="Header", name="X-Session", idle_timeout=1800),
    "address": snapshot.Persistence(type="SourceIP"),
}
"""By the first label of the host."""
_SERVES = re.compile(rb"clients at 127\.0\.0\.1:(\d+)")
_PATIENCE = 30.0


class StartError(Exception):
    """The proxy does not serve; the text says what it said."""


class Pod(asyncio.Protocol):
    """One connection of a pod."""

    def __init__(self, name: str) -> None:
        size = len(BODY) - 4
        self._answer = f"HTTP/1.1 200 OK\r\nX-Pod: {name}\r\nContent-Length: {size}".encode() + BODY

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer * data.count(b"\r\n\r\n"))


@dataclass
class Proxy:
    """A proxy that serves."""

    port: int
    pid: int

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Proxy]:
    """The proxy, and the pods in this process, while the block runs. Raises StartError."""
    loop = asyncio.get_running_loop()
    ports = {}
    servers = []
    for number in range(PODS):
        name = f"web-{number}"
        server = await loop.create_server(lambda name=name: Pod(name), "127.0.0.1", 0)
        servers.append(server)
        ports[name] = server.sockets[0].getsockname()[1]
    (folder / "snapshot.json").write_text(fleet(ports).model_dump_json())
    authority = trustme.CA()
    leaf = authority.issue_cert("proxy-0")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    leaf.private_key_pem.write_to_path(folder / "tls.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    any_port = "127.0.0.1:0"
    command = [
        *(sys.executable, "-m", "stickyroute_proxy.main", "--class-name", "scale", "--name", "proxy-0"),
        *("--http", any_port, "--control", any_port, "--admin", any_port, "--drain", any_port),
        *("--tls-dir", str(folder), "--state-dir", str(folder), "--drain-delay", "0s", "--grace", "1s"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **StickyRoute().environment},
    )
    try:
        yield Proxy(await _port(process), process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
        for server in servers:
            server.close()


def fleet(ports: dict[str, int]) -> snapshot.Snapshot:
    """One route for each policy, to the pods at these ports."""
    routes = [
        snapshot.Route(
            namespace="shop",
            name=name,
            created=1,
            hosts=(f"{name}.example.com",),
            rules=(
                snapshot.Rule(
                    name="web",
                    matches=(snapshot.Match(),),
                    backends=(snapshot.Backend(service="web", endpoints="shop/web:80"),),
                    scope="web",
                    persistence=policy,
                ),
            ),
        )
        for name, policy in POLICIES.items()
    ]
    pods = tuple(
        snapshot.Endpoint(id=f"uid-{name}", pod=name, address="127.0.0.1", port=port)
        for name, port in ports.items()
    )
    return snapshot.Snapshot(
        fleet="scale",
        epoch=1,
        revision=1,
        settings=Settings(trusted_proxies=("127.0.0.0/8",)),
        keys=snapshot.TokenKeys(
            sealing=1,
            keys={1: b64encode(os.urandom(32)).decode()},
            hashing=b64encode(os.urandom(32)).decode(),
        ),
        routes={route.key: route for route in routes},
        endpoints={"shop/web:80": pods},
    )


async def _port(process: asyncio.subprocess.Process) -> int:
    said = b""
    try:
        async with asyncio.timeout(_PATIENCE):
            while line := await process.stderr.readline():
                said += line
                if found := _SERVES.search(line):
                    return int(found[1])
    except TimeoutError:
        pass
    raise StartError(f"the proxy does not serve: {said[-2000:].decode()}")
