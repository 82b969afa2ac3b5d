"""`stickyroute serve`: the embedded default."""

import asyncio
from pathlib import Path

import click

from stickyroute_cli import loop, tokenkeys
from stickyroute_cli.address import Address, AddressType
from stickyroute_cli.serving import Options, Server
from stickyroute_cli.terminal import say


@click.command(short_help="Serve the StickyRoutes of a folder, without a cluster.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--http",
    type=AddressType(),
    default="127.0.0.1:8080",
    show_default=True,
    help="Where clients connect.",
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
def serve(folder: Path, http: Address, admin: Address | None, state: Path | None, class_name: str) -> None:
    """Serve the StickyRoutes of DIR, without a cluster.

    DIR holds Kubernetes YAML as kubectl applies it: StickyRoute, Service, EndpointSlice and Secret. Changed
    files are followed. Endpoints may be on this machine: list their addresses and ports in EndpointSlices.

    Ctrl-C ends it.
    """
    keys = tokenkeys.kept(state) if state else tokenkeys.fresh()
    options = Options(folder=folder, http=http, admin=admin, class_name=class_name, keys=keys)

    async def main(stop: asyncio.Event) -> None:
        server = Server(options)
        await server.read()
        try:
            await server.listen()
            say(f"serving {folder} on {http.url} (Ctrl-C ends it)")
            await server.run(stop)
        finally:
            await server.close()

    loop.run(main)
