"""StickyRoute: the product as its image runs it, with a kept snapshot in the operator's place."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from base64 import b64encode
from functools import cache
from pathlib import Path

from bench import site
from bench.peers.peer import Peer

from stickyroute_api import settings, snapshot

_PACKAGES = ("api", "operator", "proxy", "cli")
CONTROL, ADMIN, DRAIN = 18406, 18506, 18606


class StickyRoute(Peer):
    name = "stickyroute"
    binary = sys.executable
    port = 18206
    tls_port = 18306

    def __init__(self, python: str = sys.executable) -> None:
        """`python`: the interpreter; it needs the product's dependencies."""
        self._python = python
        self.module = "stickyroute_proxy.main"
        self.access_log = settings.AccessLog()
        self.variables: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(str(site.ROOT / package) for package in _PACKAGES)
        # The bench's own modules and the dependencies' folders follow, for another interpreter than this one.
        more = os.pathsep.join([str(site.ROOT), *(entry for entry in sys.path if "site-packages" in entry)])
        # Not an option: older programs, which are measured too, do not know it.
        drain = {"STICKYROUTE_DRAIN": f"{site.ADDRESS}:{DRAIN}"}
        return {"PYTHONPATH": os.pathsep.join([path, more]), **drain, **image_environment(), **self.variables}

    @property
    def serves_tls(self) -> bool:
        return _has_https(self._python, tuple(self.environment.items()))

    def version(self) -> str:
        command = ["git", "-C", str(site.ROOT), "describe", "--always", "--dirty"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        code = "import platform;print(platform.python_implementation(), platform.python_version())"
        python = subprocess.run([self._python, "-c", code], check=True, capture_output=True, text=True)
        return f"{done.stdout.strip() or 'from source'} on {python.stdout.strip()}"

    def write(self, folder: Path, certificate: site.Certificate) -> None:
        home = folder / self.name
        home.mkdir(exist_ok=True)
        for source, name in (
            (certificate.chain, "tls.crt"),
            (certificate.key, "tls.key"),
            (certificate.authority, "ca.crt"),
        ):
            shutil.copy(source, home / name)
        kept = self._snapshot(certificate)
        (home / "snapshot.json").write_text(kept.model_dump_json())

    def command(self, folder: Path) -> list[str]:
        home = str(folder / self.name)
        tls = ["--https", f"{site.ADDRESS}:{self.tls_port}"] if self.serves_tls else []
        return [
            *(self._python, "-m", self.module, "--class-name", "bench", "--name", "proxy-0"),
            *("--http", f"{site.ADDRESS}:{self.port}", *tls),
            *("--control", f"{site.ADDRESS}:{CONTROL}", "--admin", f"{site.ADDRESS}:{ADMIN}"),
            *("--tls-dir", home, "--state-dir", home, "--drain-delay", "0s", "--grace", "1s"),
        ]

    def _snapshot(self, certificate: site.Certificate) -> snapshot.Snapshot:
        """Sticky cookies, every deadline and every limit on."""
        pem = snapshot.Certificate(chain=certificate.chain.read_text(), key=certificate.key.read_text())
        routes = [_route(number, host) for number, host in enumerate(site.HOSTS)]
        return snapshot.Snapshot(
            fleet="bench",
            epoch=1,
            revision=1,
            settings=settings.Settings(
                limits=settings.Limits(
                    body_bytes=1 << 30, connections=15_000, connections_per_address=15_000, requests=10_000
                ),
                timeouts=settings.Timeouts(keep_alive=300),
                access_log=self.access_log,
            ),
            keys=snapshot.TokenKeys(
                sealing=1,
                keys={1: b64encode(secrets.token_bytes(32)).decode()},
                hashing=b64encode(secrets.token_bytes(32)).decode(),
            ),
            routes={route.key: route for route in routes},
            endpoints={"shop/web:80": _pods("web", site.PODS), "shop/bulk:80": _pods("bulk", site.BULK_PODS)},
            certificates={"shop/tls": pem},
        )


def _route(number: int, host: str) -> snapshot.Route:
    return snapshot.Route(
        namespace="shop",
        name=f"shop{number}",
        created=float(number),
        hosts=(host,),
        tls=snapshot.RouteTls(certificate="shop/tls", redirect=False),
        rules=(_rule("bulk", "/bulk/"), _rule("web", "/")),
    )


def _rule(name: str, path: str) -> snapshot.Rule:
    return snapshot.Rule(
        name=name,
        matches=(snapshot.Match(path=path),),
        backends=(snapshot.Backend(service=name, endpoints=f"shop/{name}:80"),),
        scope=name,
        persistence=snapshot.Persistence(
            type="Cookie", cookie=snapshot.Cookie(name=name), idle_timeout=1800, absolute_timeout=43200
        ),
        timeouts=snapshot.Timeouts(first_byte=30.0),
        limits=snapshot.Limits(requests_per_endpoint=10_000),
    )


def _pods(name: str, ports: tuple[int, ...]) -> tuple[snapshot.Endpoint, ...]:
    return tuple(
        snapshot.Endpoint(id=f"uid-{port}", pod=f"{name}-{port}", address=site.ADDRESS, port=port)
        for port in ports
    )


@cache
def image_environment() -> dict[str, str]:
    """The allocator's settings of the image."""
    return dict(re.findall(r"(MALLOC_\w+)=(\d+)", (site.ROOT / "Dockerfile").read_text()))


@cache
def _has_https(python: str, environment: tuple[tuple[str, str], ...]) -> bool:
    command = [python, "-m", "stickyroute_proxy.main", "--help"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **dict(environment)}
    )
    return "--https" in done.stdout
