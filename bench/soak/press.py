"""Small requests of sessions at a rate, as a process: `python -m bench.soak.press PORT TLS_PORT SEED`.

Each line of standard input is the rate from then on, requests a second. At its end the process stops, and
says as JSON what was amiss. It costs the load's core less than the other clients do, so that the proxy can be
kept at work while that core has time left.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from time import monotonic
from typing import Final, cast

import uvloop
from bench import site
from bench.soak.client import Aim, Client, Tally, check, request, session
from bench.soak.messages import WrongError, take_answer
from bench.soak.pulse import Pulse

KIND: Final = "at a rate"
CONNECTIONS: Final = 32
FIRST: Final = 2000.0
"""The first rate."""
_RATES: Final = (100.0, 20_000.0)
_STEP: Final = 0.3
"""The share of what is amiss that one step of the rate mends."""
_IDLE: Final = 0.12
"""The share of the load's core that is to be left."""
_TICK: Final = 0.005
_BEHIND: Final = 20
"""Requests that wait for their answers on one connection, at most."""
_LATE: Final = 0.1
"""Seconds' worth of requests that are made up for, at most."""
_TOGETHER: Final = 4
"""Requests that one connection is sent at once, at most."""
_PATIENCE: Final = 10.0
_SIZE: Final = 200


def adapted(rate: float, used: float, idle: float, wanted: float) -> float:
    """The next rate where the proxy used so much of its core, and the load left so much of its own."""
    step = 0.9 if idle < _IDLE else 1 + _STEP * (wanted - used) / wanted
    return min(max(rate * step, _RATES[0]), _RATES[1])


class Connection(asyncio.Protocol):
    """One that is kept alive, with the requests of one session under way."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = bytearray()
        self._names: deque[bytes] = deque()
        self._transport: asyncio.Transport | None = None

    def itself(self) -> "Connection":
        """For what makes connections by calling."""
        return self

    @property
    def open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, count: int) -> None:
        """Send so many requests at once, or as many as may wait."""
        names = [self._client.name() for _ in range(min(count, _BEHIND - len(self._names)))]
        if self._transport is not None and names:
            cookie = self._client.cookie
            self._names += names
            self._transport.write(b"".join(request(f"/size/{_SIZE}", name, cookie=cookie) for name in names))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        client = self._client
        try:
            while self._names and (answer := take_answer(self._buffer)) is not None:
                check(answer, self._names.popleft(), _SIZE)
                client.cookie = session(answer, client.cookie)
                client.good()
                if answer.closes:
                    self.close()  # what was sent behind it is not answered
                    return
            if self._buffer and not self._names:
                raise WrongError(f"bytes that nobody asked for: {bytes(self._buffer[:60])!r}")
        except WrongError as error:
            self.fault(str(error))
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._names:
            self.fault(f"closed with {len(self._names)} requests not answered")
        self._names.clear()
        self._transport = None

    def fault(self, text: str) -> None:
        self._client.tally.fault(KIND, text)

    def close(self) -> None:
        self._names.clear()
        if self._transport is not None:
            self._transport.abort()

    @property
    def waits(self) -> bool:
        return bool(self._names)


class Press:
    """All connections, and the rate at which they ask."""

    def __init__(self, aim: Aim, seed: str, tally: Tally) -> None:
        self._aim = aim
        self._clients = [
            Client(KIND, aim, Random(f"{seed}/{number}"), tally, asyncio.Event(), Pulse())
            for number in range(CONNECTIONS)
        ]
        self._connections = [Connection(client) for client in self._clients]
        self._rate = self._owed = 0.0
        self._turn = 0

    def take(self, line: str) -> None:
        """A line of standard input."""
        self._rate = float(line)

    async def connect(self) -> None:
        """Open anew what is not open."""
        for number, connection in enumerate(self._connections):
            if not connection.open:
                made = self._connections[number] = Connection(self._clients[number])
                await asyncio.get_running_loop().create_connection(made.itself, site.ADDRESS, self._aim.port)

    def ask(self, seconds: float) -> None:
        """Send what has become due in so many seconds, in turn."""
        self._owed = min(self._owed + self._rate * seconds, self._rate * _LATE)
        for _ in range(CONNECTIONS):
            count = min(_TOGETHER, int(self._owed))
            if not count:
                return
            self._turn = (self._turn + 1) % CONNECTIONS
            self._connections[self._turn].ask(count)
            self._owed -= count

    async def end(self) -> None:
        """Wait for the answers that are due."""
        deadline = monotonic() + _PATIENCE
        while monotonic() < deadline and any(one.waits for one in self._connections):  # noqa: ASYNC110
            await asyncio.sleep(_TICK)
        for one in self._connections:
            if one.waits:
                one.fault(f"no answer within {_PATIENCE:g} s of the load's end")
            one.close()


async def main(aim: Aim, seed: str) -> None:
    tally = Tally()
    made = Press(aim, seed, tally)
    reading = asyncio.create_task(_lines(made.take))
    then = monotonic()
    while not reading.done():
        await asyncio.sleep(_TICK)
        await made.connect()
        now = monotonic()
        made.ask(now - then)
        then = now
    await reading
    await made.end()
    sys.stdout.write(tally.dump())


async def _lines(take: Callable[[str], None]) -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        take(line.decode())


@asynccontextmanager
async def pressed(aim: Aim, seed: str, tally: Tally) -> AsyncIterator[Callable[[float], None]]:
    """The process, while the block runs; what is given sets its rate. Its tally is added to this."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.soak.press", str(aim.port), str(aim.tls_port), seed),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    writer = process.stdin
    assert writer is not None
    try:
        yield lambda rate: writer.write(f"{rate:.0f}\n".encode())
    finally:
        said, _ = await process.communicate(b"")
    if process.returncode:
        tally.fault(KIND, f"the process ended with status {process.returncode}")
    else:
        tally.add(Tally.load(said))


if __name__ == "__main__":
    port, tls_port, seed = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Aim.at(int(port), int(tls_port)), seed))
