"""A control port on a real socket with real certificates, and snapshots to push to it."""

import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from aiohttp import web

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.control import Role
from stickyroute_api.leases import Leases
from stickyroute_api.snapshot import (
    Backend,
    Cookie,
    Endpoint,
    Match,
    Persistence,
    Route,
    Rule,
    Snapshot,
    TokenKeys,
)
from stickyroute_operator import pki
from stickyroute_operator.publish import ProxyAddress
from stickyroute_proxy.control import Control
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.listen import Address, listen
from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.tls import Files, SecureSite

FLEET = "stickyroute"
TOKEN_KEY = base64.b64encode(bytes(range(32))).decode()


def endpoint(number: int, set_number: int = 0, **more) -> Endpoint:
    return Endpoint(
        id=f"uid-{set_number}-{number}",
        pod=f"web-{set_number}-{number}",
        address=f"10.{set_number // 200}.{set_number % 200}.{number + 1}",
        port=8080,
        **more,
    )


def snapshot(revision: int = 1, epoch: int = 1, routes: int = 1, pods: int = 3, **more) -> Snapshot:
    """So many routes, each with its own Service of so many pods."""
    return Snapshot(
        fleet=FLEET,
        epoch=epoch,
        revision=revision,
        keys=TokenKeys(sealing=1, keys={1: TOKEN_KEY}),
        routes={
            f"shop/route-{number}": Route(
                namespace="shop",
                name=f"route-{number}",
                created=1.0,
                hosts=(f"host-{number}.example.com",),
                rules=(
                    Rule(
                        name="app",
                        matches=(Match(path="/"),),
                        backends=(Backend(service="web", endpoints=f"shop/web-{number}:8080"),),
                        scope="web",
                        persistence=Persistence(
                            type="Cookie", cookie=Cookie(name="sticky"), idle_timeout=600
                        ),
                    ),
                ),
            )
            for number in range(routes)
        },
        endpoints={
            f"shop/web-{number}:8080": tuple(endpoint(pod, number) for pod in range(pods))
            for number in range(routes)
        },
        **more,
    )


def with_pods(base: Snapshot, pods: int, key: str = "shop/web-0:8080") -> Snapshot:
    """The next revision, in which one Service has so many pods."""
    return base.model_copy(
        update={
            "revision": base.revision + 1,
            "endpoints": {**base.endpoints, key: tuple(endpoint(pod) for pod in range(pods))},
        }
    )


@dataclass
class Authority:
    """A fleet's CA, and what it signs."""

    fleet: str = FLEET
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self):
        self.ca = pki.issue_ca(self.fleet, self.now)

    def identity(self, role: Role = Role.OPERATOR, fleet: str | None = None) -> pki.Identity:
        leaf = pki.issue(self.ca, fleet or self.fleet, role, self.now)
        return pki.Identity(self.fleet, self.ca.certificate_pem, leaf.certificate_pem, leaf.key_pem)

    def context(self, role: Role = Role.OPERATOR, fleet: str | None = None) -> ssl.SSLContext:
        return self.identity(role, fleet).client_context()

    def write(self, directory: Path, role: Role = Role.PROXY) -> Path:
        """The files of a certificate's Secret."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in pki.leaf_data(self.ca, pki.issue(self.ca, self.fleet, role, self.now)).items():
            (directory / name).write_bytes(content)
        return directory


class Remembered:
    """A keeper that keeps nothing but remembers."""

    def __init__(self):
        self.saved = []

    def save(self, snapshot):
        self.saved.append(snapshot)


@dataclass
class Served:
    """A control port that runs, and what it has got."""

    receiver: Receiver
    address: ProxyAddress
    site: SecureSite
    used: list[Snapshot]
    leases: list[Leases]

    @property
    def url(self) -> str:
        return f"https://{self.address.host}:{self.address.port}"


@contextlib.asynccontextmanager
async def serve(
    directory: Path,
    *,
    name: str = "proxy-0",
    fleet: str = FLEET,
    port: int = 0,
    use: Callable[[Snapshot], None] | None = None,
    report: Callable[[], AffinityReport | None] = lambda: None,
    before: Callable[[web.Request], Awaitable[None]] | None = None,
) -> AsyncIterator[Served]:
    """A control port with the certificates of `directory`; `before` may hold a request up."""
    used: list[Snapshot] = []
    lent: list[Leases] = []

    async def obey(leases):
        lent.append(leases)

    async def take(new, _delta):
        (use or used.append)(new)

    async def told():
        return report()

    receiver = Receiver(fleet=fleet, use=take, keeper=Remembered(), obey=obey)
    app = Control(receiver, name, "1.2.3", told, Encoder().encode).application()
    if before is not None:

        @web.middleware
        async def hold(request, handler):
            await before(request)
            return await handler(request)

        app.middlewares.insert(0, hold)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listener = listen(Address("127.0.0.1", port), "control")
    site = SecureSite(runner, listener, Files(directory))
    address = ProxyAddress("127.0.0.1", listener.getsockname()[1])
    await site.start()
    try:
        yield Served(receiver, address, site, used, lent)
    finally:
        await site.stop()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client(context: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield session
