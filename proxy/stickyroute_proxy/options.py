"""The command line of the proxy, and the environment beneath it."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from math import ceil
from pathlib import Path

from stickyroute_api.duration import parse_duration
from stickyroute_proxy.listen import Address

SNAPSHOT_FILE = "snapshot.json"
"""The kept snapshot in `Options.state_dir`."""
try:
    VERSION = metadata.version("stickyroute")
except metadata.PackageNotFoundError:
    VERSION = "from source"
"""The product's version, for people."""
MAX_WORKERS = 256
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line and the environment said."""

    class_name: str
    name: str
    http: Address
    https: Address | None
    control: Address
    admin: Address
    drain: Address
    workers: int
    tls_dir: Path
    tls_wait: float
    state_dir: Path | None
    drain_delay: float
    grace: float
    log_level: str


def parse(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> Options:
    """Options of the command line; each has a variable of the environment beneath it."""
    parser = argparse.ArgumentParser(
        prog="stickyroute-proxy",
        description="The data plane of StickyRoute: keeps each session on the pod that holds its state. "
        "It is configured by the operator over the control port and never talks to the Kubernetes API.",
        epilog="Each option can be set by an environment variable: --drain-delay by STICKYROUTE_DRAIN_DELAY. "
        "SIGTERM: not ready and closing at once, no new connection after the drain delay, exit when requests "
        "in flight are done or the grace is over; a second one ends it now.",
    )

    def option(
        flag: str, default: str, text: str, kind: Callable[[str], object] | None = None, **more: object
    ) -> None:
        value = environment.get("STICKYROUTE_" + flag.upper().replace("-", "_"), default)
        extra = {"type": kind, **more} if kind else more
        suffix = "" if default == "" else f" (default: {default})"
        parser.add_argument(f"--{flag}", default=value, help=text + suffix, **extra)  # type: ignore[arg-type]

    option("class-name", "stickyroute", "the fleet: spec.className of the StickyRoutes that it serves")
    parser.add_argument(
        "--name",
        default=environment.get("STICKYROUTE_NAME") or environment.get("POD_NAME") or os.uname().nodename,
        help="this proxy's name in status and reports (default: POD_NAME, else the host's name)",
    )
    option("http", "0.0.0.0:8080", "where clients connect", _address, metavar="HOST:PORT")
    option(
        "https",
        "0.0.0.0:8443",
        "where clients connect by TLS, empty: nowhere",
        lambda text: _address(text) if text else None,
        metavar="HOST:PORT",
    )
    option(
        "control", "0.0.0.0:9443", "where the operator connects (mutual TLS)", _address, metavar="HOST:PORT"
    )
    option("admin", "0.0.0.0:9090", "metrics, /healthz and /readyz", _address, metavar="HOST:PORT")
    option(
        "drain",
        "0.0.0.0:9091",
        "where terminating pods ask whether their sessions are gone: /v1/drain/NAMESPACE/POD",
        _address,
        metavar="HOST:PORT",
    )
    option(
        "workers",
        "1",
        "processes that serve clients, each on a core of its own; auto or 0: as many as the CPU limit allows",
        _workers,
        metavar="COUNT",
    )
    option("tls-dir", "/etc/stickyroute/tls", "holds tls.crt, tls.key and ca.crt", Path, metavar="DIR")
    option("tls-wait", "60s", "how long to wait for these files at start", _seconds, metavar="TIME")
    option("state-dir", "", "keeps the last good snapshot, token keys included: use memory", metavar="DIR")
    option("drain-delay", "5s", "still accept connections so long after SIGTERM", _seconds, metavar="TIME")
    option("grace", "30s", "then let requests in flight finish within this time", _seconds, metavar="TIME")
    option("log-level", "info", f"how much to say: {', '.join(LEVELS)}", _level, metavar="LEVEL")
    parser.add_argument("--version", action="version", version=f"stickyroute-proxy {VERSION}")
    found = parser.parse_args(arguments)
    # workers share addresses, so the kernel would not object
    if found.https == found.http and found.http.port:
        parser.error(f"argument --https: '{found.https}' is where --http listens: set another address")
    return Options(
        class_name=found.class_name,
        name=found.name,
        http=found.http,
        https=found.https,
        control=found.control,
        admin=found.admin,
        drain=found.drain,
        workers=found.workers or cores(),
        tls_dir=found.tls_dir,
        tls_wait=found.tls_wait,
        state_dir=Path(found.state_dir) if found.state_dir else None,
        drain_delay=found.drain_delay,
        grace=found.grace,
        log_level=found.log_level,
    )


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 0.0.0.0:8080 or [::]:8080")
    return Address(host, int(port))


def _workers(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isascii() or not text.isdigit() or int(text) > MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number up to {MAX_WORKERS}")
    return int(text)


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """How many cores this container may use, rounded up: its CPU limit (cgroup v2), else those there are."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        limit = ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no limit: the quota says "max"
        return count
    return max(1, min(count, limit))


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEVELS)}")
    return text.lower()


def _seconds(text: str) -> float:
    """Seconds of `5`, `0.5` or a duration such as `1m30s`."""
    try:
        value = float(text)
    except ValueError:
        try:
            return parse_duration(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value
