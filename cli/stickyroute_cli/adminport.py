"""`serve --admin`: the proxy's own metrics, health and readiness."""

import time

from aiohttp import web

from stickyroute_api.snapshot import Snapshot
from stickyroute_cli.address import Address, explain_listen
from stickyroute_cli.terminal import InputError
from stickyroute_proxy import admin
from stickyroute_proxy.metrics import registry
from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.wire.listener import DataPlane


class _Nowhere:
    """Keeps no snapshot: the folder is what a restart begins from."""

    def save(self, snapshot: Snapshot) -> None:
        pass


class AdminPort:
    """The admin port of a data plane that gets its snapshots from this process."""

    def __init__(self, plane: DataPlane, *, class_name: str, name: str, version: str) -> None:
        self._receiver = Receiver(fleet=class_name, use=lambda _: None, keeper=_Nowhere())
        self._readiness = admin.Readiness(self._receiver, started=time.monotonic())
        app = admin.application(
            self._readiness, registry(plane, self._receiver, name, version), time.monotonic
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)

    async def open(self, address: Address) -> None:
        """Listen. InputError says what stands in the way."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address.host, address.port).start()
        except OSError as error:
            raise InputError(explain_listen(error, address, "--admin")) from None

    def note(self, snapshot: Snapshot) -> None:
        """Take note of what is served now."""
        self._receiver.snapshot = snapshot
        self._receiver.pushes += 1

    def draining(self) -> None:
        """Not ready from now on."""
        self._readiness.draining = True

    async def close(self) -> None:
        await self._runner.cleanup()
