"""The operator's command line."""

import argparse
import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from stickyroute_api.duration import parse_duration
from stickyroute_api.fields import DNS_LABEL
from stickyroute_operator import settings
from stickyroute_operator.app import Operator, Options
from stickyroute_operator.cluster import ApiError, Cluster
from stickyroute_operator.epoch import Superseded
from stickyroute_operator.keys import COMMAND
from stickyroute_operator.settings import SettingsError
from stickyroute_operator.storesecret import StoreSecret

logger = logging.getLogger(__name__)

LEVELS = ("debug", "info", "warning", "error")
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Ends with status 2 for bad usage, 1 when the operator cannot work."""
    options = parser().parse_args(arguments)
    _log(options.log_level, options.log_format)
    try:
        asyncio.run(_run(_options(options)))
    except (ApiError, SettingsError, Superseded, OSError) as error:
        print(f"stickyroute-operator: {error}", file=sys.stderr)  # noqa: T201 - the command's answer
        sys.exit(1)


def parser() -> argparse.ArgumentParser:
    """The command's arguments; each may come from the environment."""
    shape = argparse.ArgumentParser(
        prog="stickyroute-operator",
        description="Follows StickyRoutes, Services and EndpointSlices and keeps a fleet of proxies in step.",
        epilog="The names of Secrets, Lease and control Service follow from --release: RELEASE-ca, "
        "RELEASE-operator-tls, RELEASE-proxy-tls, RELEASE-token-keys, RELEASE-operator, "
        "RELEASE-proxy-control. Access to the cluster: the pod's service account, else KUBECONFIG.",
    )
    shape.add_argument(
        "--class-name",
        type=_label,
        default=_env("CLASS_NAME", "stickyroute"),
        metavar="NAME",
        help="the fleet: routes of this spec.className are served (STICKYROUTE_CLASS_NAME; %(default)s)",
    )
    shape.add_argument(
        "--namespace",
        type=_label,
        default=_env("NAMESPACE", os.environ.get("POD_NAMESPACE") or _own_namespace()),
        metavar="NAME",
        help="where the proxies and the operator's own objects are (STICKYROUTE_NAMESPACE; %(default)s)",
    )
    shape.add_argument(
        "--release",
        type=_label,
        default=_env("RELEASE", "stickyroute"),
        metavar="NAME",
        help="what the names of the operator's own objects begin with (STICKYROUTE_RELEASE; %(default)s)",
    )
    shape.add_argument(
        "--watch-namespace",
        type=_label,
        action="append",
        default=[],
        metavar="NAME",
        help="follow routes of this namespace only; may be repeated "
        "(STICKYROUTE_WATCH_NAMESPACES, with commas; all namespaces)",
    )
    shape.add_argument(
        "--settings",
        type=_settings,
        default=_env("SETTINGS", ""),
        metavar="FILE",
        help="JSON: the fleet's limits, timeouts, access log and so on, in the words of the chart's "
        "proxy.settings (STICKYROUTE_SETTINGS; the defaults)",
    )
    shape.add_argument(
        "--trusted-proxy",
        type=_network,
        action="append",
        default=[],
        metavar="CIDR",
        help="proxies before ours whose X-Forwarded-* headers are believed, in place of those in the "
        "settings; may be repeated (STICKYROUTE_TRUSTED_PROXIES, with commas; none)",
    )
    shape.add_argument(
        "--store-secret",
        default=_env("STORE_SECRET", ""),
        metavar="NAME",
        help="the Secret with the store's password and authorities, in the operator's namespace "
        "(STICKYROUTE_STORE_SECRET; none)",
    )
    shape.add_argument(
        "--store-password-key",
        default=_env("STORE_PASSWORD_KEY", "password"),
        metavar="FIELD",
        help="its field with the password; empty: none (STICKYROUTE_STORE_PASSWORD_KEY; %(default)s)",
    )
    shape.add_argument(
        "--store-ca-key",
        default=_env("STORE_CA_KEY", ""),
        metavar="FIELD",
        help="its field with the authorities; empty: the system's (STICKYROUTE_STORE_CA_KEY; none)",
    )
    shape.add_argument(
        "--allow-shared-hosts",
        action="store_true",
        help="let routes of several namespaces name one host (STICKYROUTE_ALLOW_SHARED_HOSTS=true)",
    )
    shape.add_argument(
        "--rotate-keys-every",
        type=_duration,
        default=_env("ROTATE_KEYS_EVERY", "720h"),
        metavar="DURATION",
        help="how long a token key seals before the next does; 0s = only when the Secret RELEASE-token-keys "
        f"is annotated with {COMMAND} (STICKYROUTE_ROTATE_KEYS_EVERY; %(default)s)",
    )
    shape.add_argument(
        "--health",
        type=_address,
        default=_env("HEALTH", "0.0.0.0:8081"),
        metavar="HOST:PORT",
        help="where /healthz, /readyz and /metrics answer (STICKYROUTE_HEALTH; %(default)s)",
    )
    shape.add_argument(
        "--log-level",
        type=_one_of(*LEVELS),
        default=_env("LOG_LEVEL", "info"),
        metavar="LEVEL",
        help=f"how much is logged: {', '.join(LEVELS)} (STICKYROUTE_LOG_LEVEL; %(default)s)",
    )
    shape.add_argument(
        "--log-format",
        type=_one_of("json", "text"),
        default=_env("LOG_FORMAT", "json"),
        metavar="FORMAT",
        help="how it is logged: json, text (STICKYROUTE_LOG_FORMAT; %(default)s)",
    )
    return shape


def _options(given: argparse.Namespace) -> Options:
    pod = os.environ.get("POD_NAME") or socket.gethostname()
    watched = given.watch_namespace or _list("WATCH_NAMESPACES", _label)
    trusted = given.trusted_proxy or _list("TRUSTED_PROXIES", _network)
    return Options(
        fleet=given.class_name,
        namespace=given.namespace,
        release=given.release,
        # A restarted container is another operator than the one before it in the same pod.
        instance=f"{pod}_{secrets.token_hex(4)}",
        watch_namespaces=tuple(sorted(set(watched))),
        health=given.health,
        settings=given.settings,
        trusted_proxies=tuple(trusted),
        rotate_every=given.rotate_keys_every,
        allow_shared_hosts=given.allow_shared_hosts or _flag("ALLOW_SHARED_HOSTS"),
        store_secret=StoreSecret(given.store_secret, given.store_password_key, given.store_ca_key)
        if given.store_secret
        else None,
    )


async def _run(options: Options) -> None:
    """Works until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = await Cluster.connect()
    try:
        work = loop.create_task(Operator(options, api).run())
        ending = loop.create_task(stop.wait())
        await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if work.done():
            _reraise(work)
        logger.info("stopping")
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await api.close()


def _reraise(work: "asyncio.Task[None]") -> None:
    """The one cause of a group of tasks' end, where there is one."""
    try:
        work.result()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def _env(name: str, default: str) -> str:
    return os.environ.get(f"STICKYROUTE_{name}") or default


def _list(name: str, read: Callable[[str], str]) -> list[str]:
    """The entries of a variable with commas. Ends the command like a bad option does."""
    try:
        return [read(item.strip()) for item in _env(name, "").split(",") if item.strip()]
    except argparse.ArgumentTypeError as error:
        parser().error(f"STICKYROUTE_{name}: {error}")


def _flag(name: str) -> bool:
    """A variable that is true or false. Ends the command like a bad option does."""
    text = _env(name, "false")
    if text not in {"true", "false"}:
        parser().error(f"STICKYROUTE_{name}: {text!r} is neither true nor false")
    return text == "true"


def _own_namespace() -> str:
    try:
        return NAMESPACE_FILE.read_text("utf-8").strip() or "default"
    except OSError:
        return "default"


def _duration(text: str) -> timedelta:
    try:
        return timedelta(seconds=parse_duration(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _label(text: str) -> str:
    if len(text) > 63 or not re.fullmatch(DNS_LABEL, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name in Kubernetes, such as stickyroute")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    """Unlike `choices` it holds for defaults, which come from the environment, too."""

    def read(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def _settings(path: str) -> Path | None:
    if not path:
        return None
    try:
        settings.read(Path(path))
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(path)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; write a network such as 10.0.0.0/8") from None


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT such as 0.0.0.0:8081")
    return host.strip("[]"), int(port)


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log(level: str, form: str) -> None:
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(_Json() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # kopf tells of every event it handles, and of the signals that are not its business.
        logging.getLogger("kopf").setLevel(logging.WARNING)
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
