"""What runs in a proxy process: the data plane, the control port, the admin port, and their order."""

import asyncio
import contextlib
import gc
import logging
import random
import time
from collections.abc import AsyncIterator

from aiohttp import web

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.snapshot import Snapshot
from stickyroute_proxy import admin, keep, tls
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.control import Control
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.listen import Address, StartError, bound, busy, listen
from stickyroute_proxy.metrics import registry
from stickyroute_proxy.options import SNAPSHOT_FILE, Options
from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.table import build
from stickyroute_proxy.wire.listener import DataPlane

logger = logging.getLogger(__name__)


class Process:
    """One proxy, from start to graceful end."""

    def __init__(self, options: Options, version: str) -> None:
        self._options = options
        self._version = version
        self._started = time.time()
        self._random = random.Random()  # noqa: S311 - spreads load; tokens have their own source
        self._plane = DataPlane(random=self._random)
        self._encoder = Encoder()
        path = options.state_dir / SNAPSHOT_FILE if options.state_dir else None
        self._kept = path
        self._keep = keep.Keep(path, self._encoder)
        self._receiver = Receiver(fleet=options.class_name, use=self._use, keeper=self._keep)
        self._readiness = admin.Readiness(self._receiver, started=time.monotonic())
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    def stop(self) -> None:
        """Begin the graceful end; a second call ends without waiting."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def run(self) -> int:
        """Serve until `stop`. Returns the exit status; raises StartError."""
        async with self._admin() as at_admin, self._data() as at_data:
            self._restore()
            async with self._control() as (at_control, serving):
                logger.info(
                    "proxy %s of fleet %s, version %s: clients at %s, control at %s, admin at %s",
                    self._options.name,
                    self._options.class_name,
                    self._version,
                    at_data,
                    at_control,
                    at_admin,
                )
                stopping = asyncio.ensure_future(self._stop.wait())
                await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
                if not stopping.done():
                    stopping.cancel()
                    serving.result()  # raises what ended it
                return await self._drain()

    def _use(self, snapshot: Snapshot) -> None:
        previous = self._plane.table
        self._plane.apply(build(snapshot, previous, time.time(), self._random))
        if previous is None:
            # modules, models and the first table live on: later collections need not walk them
            gc.collect()
            gc.freeze()

    def _restore(self) -> None:
        if self._kept is None:
            return
        snapshot = keep.load(self._kept, self._options.class_name)
        if snapshot is None:
            return
        try:
            self._receiver.restore(snapshot)
        except ValueError as error:
            logger.warning(
                "kept snapshot %s cannot be served (%s): waiting for the operator", self._kept, error
            )
        else:
            logger.info("kept snapshot %s of %s is in use", snapshot.version, self._kept)

    def _report(self) -> AffinityReport | None:
        if (table := self._plane.table) is None:
            return None
        return report(table, self._options.name, self._started, time.time())

    async def _drain(self) -> int:
        """Unready first, so that no new connection is sent here; then what is open ends."""
        options = self._options
        logger.info(
            "stopping: unready now, accepting for %g s more, then up to %g s for requests in flight",
            options.drain_delay,
            options.grace,
        )
        self._readiness.draining = True
        draining = asyncio.ensure_future(self._plane.drain(options.drain_delay, options.grace))
        now = asyncio.ensure_future(self._stop_now.wait())
        await asyncio.wait({draining, now}, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        if not draining.done():
            draining.cancel()
            logger.warning("told to stop again: ending with requests in flight")
            return 1
        draining.result()
        await self._keep.close()
        logger.info("stopped")
        return 0

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[Address]:
        app = admin.application(
            self._readiness,
            registry(self._plane, self._receiver, self._options.name, self._version),
            time.monotonic,
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            listener = listen(self._options.admin, "admin")
            await web.SockSite(runner, listener).start()
            yield bound(listener)
        finally:
            await runner.cleanup()

    @contextlib.asynccontextmanager
    async def _data(self) -> AsyncIterator[str]:
        """Where clients connect, for people."""
        listeners = {"http": self._options.http, "https": self._options.https}
        at: list[str] = []
        async with contextlib.AsyncExitStack() as stack:
            for what, address in listeners.items():
                if address is None:
                    continue
                try:
                    server = await self._plane.listen(address.host, address.port, tls=what == "https")
                except OSError as error:
                    raise busy(what, address, error) from None
                stack.callback(server.close)
                at.append(str(bound(server.sockets[0])))
            yield " and by TLS at ".join(at)

    @contextlib.asynccontextmanager
    async def _control(self) -> AsyncIterator[tuple[Address, asyncio.Task[None]]]:
        """Where the control port is, and the task that serves it: that ends only with an error."""
        listener = listen(self._options.control, "control")
        control = Control(
            self._receiver, self._options.name, self._version, self._report, self._encoder.encode
        )
        runner = web.AppRunner(
            control.application(), access_log=None, handle_signals=False, shutdown_timeout=1
        )
        await runner.setup()
        site = tls.SecureSite(runner, listener, tls.Files(self._options.tls_dir))
        task = asyncio.get_running_loop().create_task(self._serve_control(site), name="control")
        try:
            yield bound(listener), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await site.stop()
            await runner.cleanup()

    async def _serve_control(self, site: tls.SecureSite) -> None:
        files = tls.Files(self._options.tls_dir)
        while True:
            try:
                await tls.wait(files, self._options.tls_wait)
                await site.start()
                break
            except tls.CertificateError as error:
                if self._receiver.snapshot is None:
                    raise StartError(str(error)) from None
                # it serves its clients from the kept snapshot: worth more than a restart
                logger.error("the control port is closed: %s", error)  # noqa: TRY400
                await asyncio.sleep(tls.POLL)
        await site.follow()
