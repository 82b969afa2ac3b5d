"""What runs in a proxy process: the data plane, the control port, the admin port, and their order."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from stickyroute_api.snapshot import Delta, Snapshot
from stickyroute_proxy import admin, keep, metrics, tls
from stickyroute_proxy.control import Control
from stickyroute_proxy.drainport import DrainPort
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.lean import settle
from stickyroute_proxy.listen import Address, Ports, StartError, bound, listen
from stickyroute_proxy.metrics import Samples
from stickyroute_proxy.options import SNAPSHOT_FILE, Options
from stickyroute_proxy.receive import Receiver, RefusedError
from stickyroute_proxy.serving import Serving
from stickyroute_proxy.supervisor import Supervisor

logger = logging.getLogger(__name__)


class Process:
    """One proxy, from start to graceful end."""

    def __init__(self, options: Options, version: str) -> None:
        self._options = options
        self._version = version
        self._started = time.time()
        self._encoder = Encoder()
        wanted = {"http": options.http} | ({"https": options.https} if options.https else {})
        self._ports = Ports(wanted, shared=options.workers > 1)
        self._serving: Serving | Supervisor
        if options.workers > 1:
            self._serving = Supervisor(options, self._ports, self._encoder, self._started)
        else:
            self._serving = Serving(options.name, self._started)
        path = options.state_dir / SNAPSHOT_FILE if options.state_dir else None
        self._kept = path
        self._keep = keep.Keep(path, self._encoder)
        self._receiver = Receiver(
            fleet=options.class_name, use=self._use, keeper=self._keep, obey=self._serving.obey
        )
        self._readiness = admin.Readiness(
            self._receiver, started=time.monotonic(), lacking=self._serving.lacking
        )
        self._drain_port = DrainPort(self._receiver, self._serving.left, lambda: self._readiness.draining)
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    def stop(self) -> None:
        """Begin the graceful end; a second call ends without waiting."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def run(self) -> int:
        """Serve until `stop`. Returns the exit status; raises StartError."""
        async with self._admin() as at_admin, self._data() as at_data, self._draining() as at_drain:
            await self._restore()
            async with self._control() as (at_control, control):
                logger.info(
                    "proxy %s of fleet %s, version %s: clients at %s, control at %s, admin at %s, "
                    "drain at %s",
                    self._options.name,
                    self._options.class_name,
                    self._version,
                    at_data,
                    at_control,
                    at_admin,
                    at_drain,
                )
                stopping = asyncio.ensure_future(self._stop.wait())
                working = {control, *self._serving.tasks}
                await asyncio.wait({stopping, *working}, return_when=asyncio.FIRST_COMPLETED)
                if not stopping.done():
                    stopping.cancel()
                    for task in working:
                        if task.done():
                            task.result()  # raises what ended it
                return await self._drain()

    async def _use(self, snapshot: Snapshot, delta: Delta | None) -> None:
        await self._serving.take(snapshot, delta)
        if self._receiver.snapshot is None:
            settle()

    async def _restore(self) -> None:
        if self._kept is None:
            return
        snapshot = keep.load(self._kept, self._options.class_name)
        if snapshot is None:
            return
        try:
            await self._receiver.restore(snapshot)
        except (ValueError, RefusedError) as error:
            logger.warning(
                "kept snapshot %s cannot be served (%s): waiting for the operator", self._kept, error
            )
        else:
            logger.info("kept snapshot %s of %s is in use", snapshot.version, self._kept)

    async def _samples(self) -> Samples:
        about = metrics.about(self._receiver, self._options.name, self._version, self._started)
        return about | await self._serving.samples()

    async def _drain(self) -> int:
        """Unready first, so that no new connection is sent here; then what is open ends."""
        options = self._options
        logger.info(
            "stopping: unready now, accepting for %g s more, then up to %g s for requests in flight",
            options.drain_delay,
            options.grace,
        )
        self._readiness.draining = True
        draining = asyncio.ensure_future(self._serving.drain(options.drain_delay, options.grace))
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

    def _admin(self) -> AbstractAsyncContextManager[Address]:
        app = admin.application(self._readiness, self._samples, time.monotonic, self._serving.stuck)
        return _answering(app, self._options.admin, "admin")

    def _draining(self) -> AbstractAsyncContextManager[Address]:
        return _answering(self._drain_port.application(), self._options.drain, "drain")

    @contextlib.asynccontextmanager
    async def _data(self) -> AsyncIterator[str]:
        """Where clients connect, for people."""
        try:
            if isinstance(self._serving, Supervisor):
                sockets = await self._serving.start()
            else:
                sockets = self._ports.open()
                await self._serving.listen(sockets)
            yield " and by TLS at ".join(str(bound(listener)) for listener in sockets.values())
        finally:
            await self._serving.close()

    @contextlib.asynccontextmanager
    async def _control(self) -> AsyncIterator[tuple[Address, asyncio.Task[None]]]:
        """Where the control port is, and the task that serves it: that ends only with an error."""
        listener = listen(self._options.control, "control")
        control = Control(
            self._receiver, self._options.name, self._version, self._serving.report, self._encoder.encode
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


@contextlib.asynccontextmanager
async def _answering(app: web.Application, address: Address, what: str) -> AsyncIterator[Address]:
    """Where it answers plain HTTP. Raises StartError."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        listener = listen(address, what)
        await web.SockSite(runner, listener).start()
        yield bound(listener)
    finally:
        await runner.cleanup()
