"""`serve --admin`: the proxy's own metrics, health and readiness."""

import time

from aiohttp import web

from stickyroute_api.snapshot import Delta, Snapshot
from stickyroute_cli.address import Address, explain_listen
from stickyroute_cli.terminal import InputError
from stickyroute_proxy import admin, metrics
from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.wire.listener import DataPlane


class _Nowhere:
    """Keeps no snapshot: the folder is what a restart begins from."""

    def save(self, snapshot: Snapshot) -> None:
        pass


async def _nothing(_snapshot: Snapshot, _delta: Delta | None) -> None:
    """Nobody pushes here."""


class AdminPort:
    """The admin port of a data plane that gets its snapshots from this process."""

    def __init__(self, plane: DataPlane, *, class_name: str, name: str, version: str) -> None:
        self._receiver = Receiver(fleet=class_name, use=_nothing, keeper=_Nowhere())
        self._readiness = admin.Readiness(self._receiver, started=time.monotonic())
        started = time.time()

        async def samples() -> metrics.Samples:
            about = metrics.about(self._receiver, name, version, started)
            return about | metrics.read(plane.table, plane.counters, plane.health)

        app = admin.application(self._readiness, samples, time.monotonic)
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
