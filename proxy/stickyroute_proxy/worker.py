"""A worker: a process that serves clients beside others, and does what its supervisor asks."""

import asyncio
import json
import logging
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Self

from pydantic import ValidationError

from stickyroute_api.leases import DRAINS, Leases
from stickyroute_api.snapshot import Delta, Snapshot
from stickyroute_proxy import metrics
from stickyroute_proxy.channel import Outcome, Verb, frame, frames
from stickyroute_proxy.lean import settle
from stickyroute_proxy.receive import explain
from stickyroute_proxy.serving import Serving, run

logger = logging.getLogger("stickyroute_proxy.worker")  # it runs as __main__


@dataclass(frozen=True, slots=True)
class Duties:
    """What a supervisor tells a worker on its command line."""

    number: int
    name: str
    """The proxy's."""
    started: float
    """When the proxy did: its counts go on over workers."""
    channel: int
    """A file descriptor."""
    sockets: dict[str, int]
    """Listening sockets' file descriptors, by the name of their option."""
    drain_delay: float
    grace: float
    log_level: str

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        return cls(**json.loads(text))


class Worker:
    """The worker's side of the channel."""

    def __init__(self, duties: Duties) -> None:
        self._duties = duties
        self._serving = Serving(duties.name, duties.started)
        self._drain = asyncio.Event()

    async def run(self) -> int:
        """Serve until told to drain, or until the supervisor has gone."""
        reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=self._duties.channel))
        loop = asyncio.get_running_loop()
        answering = loop.create_task(self._answer(reader, writer), name="channel")
        told = loop.create_task(self._drain.wait(), name="drain")
        await asyncio.wait({answering, told}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()  # raises what ended it
            logger.warning("the supervisor has gone: ending when requests in flight are done")
        await self._serving.drain(self._duties.drain_delay, self._duties.grace)
        answering.cancel()
        told.cancel()
        return 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for kind, content in frames(reader):
            try:
                answer = frame(Outcome.DONE, await self._do(Verb(kind), content))
            except ValidationError as error:  # its own text would tell values
                answer = frame(Outcome.REFUSED, explain(error).encode())
            except ValueError as error:
                answer = frame(Outcome.REFUSED, str(error).encode())
            writer.write(answer)

    async def _do(self, verb: Verb, content: bytes) -> bytes:
        """The answer. Raises ValueError for what cannot be served."""
        serving = self._serving
        match verb:
            case Verb.WHOLE:
                serving.prepare(Snapshot.model_validate_json(content))
            case Verb.DELTA:
                held = serving.snapshot
                assert held is not None  # noqa: S101 - deltas follow a whole one
                serving.prepare(Delta.model_validate_json(content).apply(held))
            case Verb.COMMIT:
                is_first = serving.snapshot is None
                serving.commit()
                if is_first:
                    settle()
            case Verb.LISTEN:
                found = self._duties.sockets.items()
                await serving.listen({what: socket.socket(fileno=handle) for what, handle in found})
            case Verb.LEASES:
                await serving.obey(Leases.model_validate_json(content))
            case Verb.DRAIN:
                self._drain.set()
            case _:
                return await self._tell(verb)
        return b""

    async def _tell(self, verb: Verb) -> bytes:
        """What is asked; nothing but that it answers, for a PING."""
        match verb:
            case Verb.SAMPLES:
                return metrics.encode(await self._serving.samples())
            case Verb.REPORT:
                report = await self._serving.report()
                return b"" if report is None else report.model_dump_json().encode()
            case Verb.DRAINS:
                return DRAINS.dump_json(dict(await self._serving.left()))
            case _:
                return b""


def main() -> None:
    """Run as the supervisor's child."""
    duties = Duties.decode(sys.argv[1])
    logging.basicConfig(
        level=duties.log_level.upper(),
        format=f"%(asctime)s %(levelname)s %(name)s[{duties.number}]: %(message)s",
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a whole group may get them: the supervisor decides

    sys.exit(run(Worker(duties).run()))


if __name__ == "__main__":
    main()
