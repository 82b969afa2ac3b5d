"""Several worker processes as one proxy: started, fed, asked, replaced when they die, and drained together.

The listening sockets are the supervisor's, a set for each worker, and the kernel spreads connections over
them. A replaced worker inherits its predecessor's sockets with the connections that wait there.
"""

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.leases import DRAINS, Drain, Leases
from stickyroute_api.shares import Lent
from stickyroute_api.snapshot import Delta, Snapshot
from stickyroute_proxy import metrics
from stickyroute_proxy.affinity.drains import greater
from stickyroute_proxy.affinity.report import ended, merge
from stickyroute_proxy.channel import Channel, GoneError, Verb
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.listen import Ports, StartError
from stickyroute_proxy.metrics import Samples
from stickyroute_proxy.options import Options
from stickyroute_proxy.receive import UnavailableError
from stickyroute_proxy.shares import divide, raised
from stickyroute_proxy.slices import Steps, at_once, in_slices
from stickyroute_proxy.survivors import Survivors
from stickyroute_proxy.worker import Duties

logger = logging.getLogger(__name__)

PATIENCE: Final = 20.0
"""Seconds after which a worker that does not answer is killed: its loop hangs."""
START: Final = 60.0
"""Seconds that a worker may take to answer for the first time: a machine may be busy."""
BEAT: Final = 5.0
"""Seconds between two questions whether it does."""
GLANCE: Final = 2.0
"""Seconds that a scrape or a report waits for a worker, before it tells what it last knew of it."""
SETTLED: Final = 10.0
"""A worker that has run so many seconds is replaced at once."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 15.0
END: Final = 5.0
"""Seconds beyond all others that a worker may take to end."""


def pause(lived: float, last: float) -> float:
    """Seconds until a worker is replaced: none, then doubling while its successors die young."""
    if lived >= SETTLED:
        return 0.0
    return min(max(2 * last, FIRST_PAUSE), LONGEST_PAUSE)


@dataclass(slots=True)
class Running:
    """A worker process as the supervisor knows it."""

    number: int
    process: asyncio.subprocess.Process
    channel: Channel
    joined: bool = False
    """It serves the accepted snapshot, and gets each new one."""
    asked: float | None = None
    """When it was asked what it has not answered since, on the monotonic clock."""
    samples: Samples = field(default_factory=dict)
    """As last told."""
    report: AffinityReport | None = None
    """As last told."""
    lent: Lent = field(default_factory=Lent)
    """What it was lent since."""

    async def ask(self, verb: Verb, content: bytes = b"", limit: float | None = None) -> bytes:
        """Its answer within `limit` seconds, else PATIENCE.

        Raises ValueError when it refuses, `GoneError`, TimeoutError.
        """
        if self.asked is None:
            self.asked = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE if limit is None else limit):
                answer = await self.channel.ask(verb, content)
        except ValueError:
            self.asked = None  # a refusal is an answer
            raise
        self.asked = None
        return answer

    async def glance(self) -> None:
        """Bring `samples` up to date, if it answers soon."""
        with contextlib.suppress(GoneError, TimeoutError):
            self.samples = metrics.decode(await self.ask(Verb.SAMPLES, limit=GLANCE))

    async def inquire(self) -> None:
        """Bring `report` up to date, if it answers soon."""
        with contextlib.suppress(GoneError, TimeoutError):
            if content := await self.ask(Verb.REPORT, limit=GLANCE):
                self.report = AffinityReport.model_validate_json(content)
                self.lent = self.lent.heard(self.report.leased)

    async def left(self) -> Mapping[str, Drain]:
        """What it knows of draining pods; nothing when it does not answer soon."""
        with contextlib.suppress(GoneError, TimeoutError):
            return DRAINS.validate_json(await self.ask(Verb.DRAINS, limit=GLANCE))
        return {}

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class Supervisor:
    """So many workers in the place of one `Serving`."""

    tasks: Sequence[asyncio.Task[None]]
    """Those that keep the workers running: they end only with an error."""

    def __init__(self, options: Options, ports: Ports, encoder: Encoder, started: float) -> None:
        self._options = options
        self._ports = ports
        self._encoder = encoder
        self._started = started
        self._sockets: dict[int, dict[str, socket.socket]] = {}
        self._running: dict[int, Running] = {}
        self._accepted: Snapshot | None = None
        self._leases: Leases | None = None
        self._lends = 0
        """How often they were divided."""
        self._changing = asyncio.Lock()
        """Held while a snapshot is brought to workers, so that one that joins misses none."""
        self._joining = asyncio.Condition()
        self._draining = asyncio.Event()
        self._up = False
        """All workers have served."""
        self._restarts = 0
        self._left_samples: Samples = {}
        """What ended workers counted."""
        self._left_report: AffinityReport | None = None
        self._survivors = Survivors()
        self.tasks = ()

    # Starting

    async def start(self) -> dict[str, socket.socket]:
        """Have all workers serve; the sockets of one of them. Raises StartError."""
        numbers = range(self._options.workers)
        for number in numbers:
            self._sockets[number] = self._ports.open()
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self._keep(number), name=f"worker {number}") for number in numbers]
        joined = loop.create_task(self._wait_joined(len(numbers)), name="start")
        await asyncio.wait({joined, *self.tasks}, return_when=asyncio.FIRST_COMPLETED)
        if not joined.done():
            joined.cancel()
            for task in self.tasks:
                if task.done():
                    task.result()  # raises what ended it
        self._up = True
        return self._sockets[0]

    async def _wait_joined(self, count: int) -> None:
        async with self._joining:
            await self._joining.wait_for(lambda: len(self._joined()) >= count)

    def _joined(self) -> list[Running]:
        return [running for running in self._running.values() if running.joined]

    async def _keep(self, number: int) -> None:
        """Have a worker of this number run, until the drain. Raises StartError when one ends in `start`."""
        wait = 0.0
        while not await self._drains_within(wait):
            began = time.monotonic()
            end = await self._run(number)
            if self._draining.is_set():
                return
            if not self._up:
                raise StartError(f"a worker ended at its start ({end}): see the log above")
            wait = pause(time.monotonic() - began, wait)
            self._restarts += 1
            if wait > FIRST_PAUSE:
                self._close(number)  # connections that come meanwhile go to the others
            logger.error("worker %d ended (%s): replaced in %g s, the others serve on", number, end, wait)

    async def _drains_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), seconds)
        return self._draining.is_set()

    async def _run(self, number: int) -> str:
        """Run one process to its end; how it ended."""
        try:
            if number not in self._sockets:
                self._sockets[number] = self._ports.open()
            running = self._running[number] = await self._spawn(number)
        except (OSError, StartError) as error:
            return str(error)
        watching = asyncio.get_running_loop().create_task(self._watch(running), name=f"watch {number}")
        try:
            status = await running.process.wait()
        finally:
            watching.cancel()
            running.kill()
            await asyncio.gather(watching, running.process.wait(), return_exceptions=True)
            await running.channel.close()
            self._bury(running)
        return f"signal {-status}" if status < 0 else f"status {status}"

    async def _spawn(self, number: int) -> Running:
        options = self._options
        ours, theirs = socket.socketpair()
        with theirs:
            sockets = {what: listener.fileno() for what, listener in self._sockets[number].items()}
            duties = Duties(
                number=number,
                name=options.name,
                started=self._started,
                channel=theirs.fileno(),
                sockets=sockets,
                drain_delay=options.drain_delay,
                grace=options.grace,
                workers=options.workers,
                log_level=options.log_level,
            )
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "stickyroute_proxy.worker",
                    duties.encode(),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(duties.channel, *sockets.values()),
                )
            except OSError:
                ours.close()
                raise
        return Running(number, process, await Channel.open(ours))

    async def _watch(self, running: Running) -> None:
        """Have it join, and end it when it answers no more."""
        try:
            await self._join(running)
            while True:
                await asyncio.sleep(BEAT)
                await running.ask(Verb.PING)
        except GoneError:
            return
        except TimeoutError:
            logger.error("worker %d does not answer: it is killed", running.number)  # noqa: TRY400
        except ValueError as error:
            logger.error("worker %d cannot serve what the others do: %s", running.number, error)  # noqa: TRY400
        running.kill()

    async def _join(self, running: Running) -> None:
        await running.ask(Verb.PING, limit=START)
        async with self._changing:
            if self._accepted is not None:
                await running.ask(Verb.WHOLE, await self._encoder.encode(self._accepted))
                await running.ask(Verb.COMMIT)
            await running.ask(Verb.LISTEN)
            running.joined = True
        await self._lend()
        logger.info("worker %d serves: process %d", running.number, running.process.pid)
        async with self._joining:
            self._joining.notify_all()

    def _bury(self, running: Running) -> None:
        """Keep what an ended worker counted."""
        self._running.pop(running.number, None)
        self._left_samples = metrics.total((self._left_samples, metrics.lasting(running.samples)))
        if running.report is not None:
            self._survivors.add(running.report, time.monotonic())
            left = ended(running.report)
            self._left_report = at_once(self._merged(left)) if self._left_report else left

    # What `Serving` does too

    async def take(self, snapshot: Snapshot, delta: Delta | None) -> None:
        """Bring it into use at every worker, or at none.

        Raises ValueError when one cannot serve it, UnavailableError when none runs.
        """
        if delta is None:
            verb, content = Verb.WHOLE, await self._encoder.encode(snapshot)
        else:
            verb, content = Verb.DELTA, delta.model_dump_json().encode()
        async with self._changing:
            workers = self._joined()
            ready = await self._each(workers, verb, content)
            if not ready:
                raise UnavailableError("no worker runs that could take it: see the proxy's log")
            # From here it holds: a worker that dies is replaced by one that gets it.
            self._accepted = snapshot
            await self._each(ready, Verb.COMMIT)

    async def obey(self, leases: Leases) -> None:
        """Have the workers together go by these leases."""
        self._leases = leases
        await self._lend()

    async def _lend(self) -> None:
        """Give each worker its part of the leases."""
        if self._leases is None:
            return
        workers = self._joined()
        reports, lent = [one.report for one in workers], [one.lent for one in workers]
        parts = divide(self._leases, reports, lent, self._left_report)
        self._lends += 1
        contents = []
        for running, part in zip(workers, parts, strict=True):
            # Numbered anew: leases are divided again when a worker joins.
            own = part.model_copy(update={"epoch": 0, "sequence": self._lends})
            running.lent = running.lent.add(own)
            contents.append(own.model_dump_json().encode())
        await asyncio.gather(
            *(
                running.ask(Verb.LEASES, content, limit=GLANCE)
                for running, content in zip(workers, contents, strict=True)
            ),
            return_exceptions=True,  # who does not answer is found by its watch, and ended
        )

    async def _each(self, workers: Iterable[Running], verb: Verb, content: bytes = b"") -> list[Running]:
        """Those that did it; who does not answer is ended. Raises ValueError when one refuses."""
        workers = tuple(workers)
        answers = await asyncio.gather(
            *(running.ask(verb, content) for running in workers), return_exceptions=True
        )
        did = []
        for running, answer in zip(workers, answers, strict=True):
            if isinstance(answer, TimeoutError):
                logger.error("worker %d does not answer %s: it is killed", running.number, verb.name)
                running.kill()
            elif isinstance(answer, bytes):
                did.append(running)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, GoneError | TimeoutError):
                raise answer
        return did

    async def report(self) -> AffinityReport | None:
        """What all workers know of sessions, as one proxy's; None while nothing is served."""
        leased = (0, 0) if self._leases is None else self._leases.number
        await _all(running.inquire() for running in self._joined())
        if self._accepted is None:
            return None
        told = [
            raised(running.report, running.lent)
            for running in self._running.values()
            if running.report is not None
        ]
        survived = self._survivors.told(self._accepted, time.monotonic())
        return await in_slices(self._merged(*survived, *told, leased=leased))

    def _merged(self, *told: AffinityReport, leased: tuple[int, int] = (0, 0)) -> Steps[AffinityReport]:
        assert self._accepted is not None  # noqa: S101 - workers that serve nothing report nothing
        left = () if self._left_report is None else (self._left_report,)
        version = self._accepted.version
        return merge((*left, *told), self._options.name, self._started, version, time.time(), leased=leased)

    async def left(self) -> Mapping[str, Drain]:
        """What is left of draining pods, by `namespace/pod`, as far as the workers tell soon."""
        told = await asyncio.gather(*(running.left() for running in self._joined()))
        pods = {pod for found in told for pod in found}
        joined = {pod: greater(found[pod] for found in told if pod in found) for pod in pods}
        return {pod: drain for pod, drain in joined.items() if drain is not None}

    async def samples(self) -> Samples:
        """What all workers counted, those that ended included, and this process's own cost."""
        await _all(running.glance() for running in self._joined())
        told = [running.samples for running in self._running.values()]
        own: Samples = {
            "stickyroute_workers": {(): len(self._joined())},
            "stickyroute_worker_restarts": {(): self._restarts},
        }
        return metrics.total((own, metrics.process(), self._left_samples, *told))

    def lacking(self) -> str:
        """What keeps it from serving: too few workers. Empty when half of them do."""
        count, wanted = len(self._joined()), self._options.workers
        return "" if 2 * count >= wanted else f"{count} of {wanted} workers serve: see the proxy's log"

    def stuck(self) -> str:
        """Which worker's loop hangs; empty when all answer."""
        since = time.monotonic() - PATIENCE / 2
        hanging = [running.number for running in self._joined() if (running.asked or since) < since]
        return f"worker {hanging[0]} does not answer" if hanging else ""

    # Ending

    async def drain(self, delay: float, grace: float) -> None:
        """Have all workers drain, by the delays that they know; see `DataPlane.drain`."""
        self._draining.set()
        for number in tuple(self._sockets):
            self._close(number)  # what the workers hold decides from now on when the ports close
        for running in self._running.values():
            if not running.joined:
                running.kill()
        draining = await self._each(self._joined(), Verb.DRAIN)
        ends = _all(running.process.wait() for running in draining)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ends, delay + grace + END)

    async def close(self) -> None:
        """End at once what still runs."""
        self._draining.set()
        for number in tuple(self._sockets):
            self._close(number)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _close(self, number: int) -> None:
        for listener in self._sockets.pop(number, {}).values():
            listener.close()


async def _all(asked: Iterable[Awaitable[object]]) -> None:
    await asyncio.gather(*asked)
