"""`stickyroute demo`: three pods as processes behind the real proxy, and a page that shows them."""

import asyncio
import os
import secrets
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from random import SystemRandom

import click

from stickyroute_cli import loop, tokenkeys
from stickyroute_cli.address import Address, AddressType
from stickyroute_cli.demo.control import Control
from stickyroute_cli.demo.pods import Pods
from stickyroute_cli.serving import Options, Server
from stickyroute_cli.terminal import say

MAX_PODS = 9
WELCOME = """
  Open {url} and stop the pod that holds your session.
  Or be a client here, and repeat it:
    curl -s -c jar -b jar {url}whoami
  Ctrl-C ends it all.
"""


@click.command(short_help="Try StickyRoute here: three pods, one page, no cluster.")
@click.option(
    "--http",
    type=AddressType(),
    default="127.0.0.1:8080",
    show_default=True,
    help="Where to open the page.",
)
@click.option(
    "--pods", "count", type=click.IntRange(1, MAX_PODS), default=3, show_default=True, help="How many pods."
)
def demo(http: Address, count: int) -> None:
    """Try StickyRoute on this machine: pods as processes, one page that shows them, no cluster.

    Your session lives in one pod's memory. Stop that pod from the page, and see where the session goes
    and why.

    Ctrl-C ends it.
    """
    with tempfile.TemporaryDirectory(prefix="stickyroute-demo-") as folder:
        loop.run(lambda stop: _demo(Path(folder), http, count, stop))


async def _demo(folder: Path, http: Address, count: int, stop: asyncio.Event) -> None:
    pods = Pods(count, folder, say=say, random=SystemRandom(), environment=os.environ)
    control = Control(pods, secrets.token_urlsafe(24))
    server = Server(Options(folder=folder, http=http, keys=tokenkeys.fresh()))
    try:
        await server.listen()
        say(f"starting {count} pods; their manifests are in {folder}")
        pods.control = await control.open()
        pods.write()
        if await _before(stop, pods.open()):
            await server.read()
            say(WELCOME.format(url=http.url))
            await server.run(stop)
    finally:
        await server.close()
        await pods.close()
        await control.close()


async def _before(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work, unless `stop` comes first; whether it was done."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing.done():
        doing.result()
        return True
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    return False
