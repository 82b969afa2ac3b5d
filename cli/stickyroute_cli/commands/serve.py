"""`stickyroute serve`: the embedded default."""

import asyncio
import os
from pathlib import Path

import click
import yaml

from stickyroute_api.settings import Settings
from stickyroute_api.settingsfile import InvalidObject, parse_settings
from stickyroute_cli import loop, tokenkeys
from stickyroute_cli.address import Address, AddressType
from stickyroute_cli.serving import Options, Server
from stickyroute_cli.terminal import InputError, say


@click.command(short_help="Serve the StickyRoutes of a folder, without a cluster.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--http",
    type=AddressType(),
    default="127.0.0.1:8080",
    show_default=True,
    help="Where clients connect.",
)
@click.option(
    "--https",
    type=AddressType(),
    help="Where clients connect over TLS, to routes that name a certificate; off unless given.",
)
@click.option("--admin", type=AddressType(), help="Where metrics and health are read; off unless given.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the token keys here, so that sessions outlive a restart. Not kept unless given.",
)
@click.option(
    "--class",
    "class_name",
    default="stickyroute",
    show_default=True,
    metavar="NAME",
    help="Serve routes of this spec.className.",
)
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML or JSON: limits, timeouts, access log and so on, as in the chart's proxy.settings.",
)
def serve(
    *,
    folder: Path,
    http: Address,
    https: Address | None,
    admin: Address | None,
    state: Path | None,
    class_name: str,
    settings_file: Path | None,
) -> None:
    """Serve the StickyRoutes of DIR, without a cluster.

    DIR holds Kubernetes YAML as kubectl applies it: StickyRoute, Service, EndpointSlice, Pod, Secret,
    ConfigMap. Changed files are followed. Endpoints may be on this machine: list their addresses and ports
    in EndpointSlices. Pods are needed for bindTo, for grace periods and to notice restarted containers only.

    Ctrl-C ends it.
    """
    keys = tokenkeys.kept(state) if state else tokenkeys.fresh()
    options = Options(
        folder=folder,
        http=http,
        https=https,
        admin=admin,
        class_name=class_name,
        keys=keys,
        settings=_settings(settings_file) if settings_file else Settings(),
    )

    async def main(stop: asyncio.Event) -> None:
        server = Server(options)
        await server.read()
        try:
            await server.listen()
            where = f"{http.url} and {https.tls_url}" if https else http.url
            say(f"serving {folder} on {where} (Ctrl-C ends it)")
            await server.run(stop)
        finally:
            await server.close()

    loop.run(main)


def _settings(file: Path) -> Settings:
    try:
        settings = parse_settings(yaml.safe_load(file.read_bytes()))
    except InvalidObject as error:
        raise InputError("\n".join(f"{file}: {problem}" for problem in error.problems)) from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); name a file with --settings") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not YAML: {error}") from None
    if settings.proxy_protocol and not settings.trusted_proxies:
        raise InputError(
            f"{file}: proxyProtocol: no address is trusted, so no PROXY header is read; list the load "
            "balancer's in trustedProxies"
        )
    return settings.model_copy(
        update={
            "store": settings.store.model_copy(
                update={"password": os.environ.get("STICKYROUTE_STORE_PASSWORD", "")}
            )
        }
    )
