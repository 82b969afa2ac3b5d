"""What slow clients cost: the others' latency with a crowd of them and without, and memory for each."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Final

from bench import machine
from bench.soak import crowd, verdict
from bench.soak.client import Aim, Client, Connection, Tally, check, request, session
from bench.soak.messages import WrongError
from bench.soak.pulse import Pulse
from bench.soak.stage import MEMORY, Stage

PAIRS: Final = 5
"""Rounds with the crowd, and without it."""
MOST: Final = 8
"""So many where too few of them count."""
SECONDS: Final = 6.0
"""Of a round."""
RATE: Final = 1000
"""Requests a second of the others, from all together."""
OTHERS: Final = 32
"""Their connections."""
GONE: Final = 3.0
"""Seconds in which what a crowd leaves behind is cleared away."""
FOREIGN: Final = 0.1
"""The share of a core that processes beside the soak may use: with more a round says nothing."""
_SIZE: Final = 500
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Slow:
    """What was measured: pairs of the others' p99 in seconds, without the crowd and with it."""

    pairs: list[tuple[float, float]] = field(default_factory=list)
    void: int = 0
    """Pairs that say nothing, because other processes used the cores."""
    each: float = 0.0
    """Bytes of the proxy's memory for each slow client."""

    @property
    def count(self) -> int:
        """All pairs."""
        return len(self.pairs) + self.void


async def measure(made: Stage, seed: int, tally: Tally) -> Slow:
    """The rounds, every other pair with the crowd first. What is amiss is added to the tally."""
    slow, aim = Slow(), Aim.at(made.port, made.tls_port)
    await p99(aim, f"{seed}/before", tally)
    before = (await made.metrics())[MEMORY]
    most = before
    for number in range(MOST):
        if number >= PAIRS and len(slow.pairs) >= verdict.PAIRS:
            break
        found: dict[bool, float] = {}
        foreign = 0.0
        for beside in (False, True) if number % 2 else (True, False):
            used, name = Used(), f"{seed}/{number}/{beside}"
            async with crowded(aim, name, tally) if beside else alone():
                found[beside] = await p99(aim, name, tally)
                most = max(most, (await made.metrics())[MEMORY])
                foreign = max(foreign, used.foreign())
        void = foreign > FOREIGN
        if void:
            slow.void += 1
        else:
            slow.pairs.append((found[False], found[True]))
        print(
            f"p99 {found[False] * 1000:.2f} ms, beside {crowd.COUNT} slow clients {found[True] * 1000:.2f} ms"
            f"{f', void: other processes used {foreign:.0%} of a core' if void else ''}",
            flush=True,
        )
    slow.each = (most - before) / crowd.COUNT
    return slow


@asynccontextmanager
async def alone() -> AsyncIterator[None]:
    """No slow clients are there any more."""
    await asyncio.sleep(GONE)
    yield


@asynccontextmanager
async def crowded(aim: Aim, seed: str, tally: Tally) -> AsyncIterator[None]:
    """Slow clients are there while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.soak.crowd", str(aim.port), str(aim.tls_port), seed),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield
    finally:
        said, _ = await process.communicate(b"")
    tally.add(Tally.load(said))


async def p99(aim: Aim, seed: str, tally: Tally) -> float:
    """The others' 99th percentile, in seconds; what goes out late counts from when it was due."""
    latencies: list[float] = []
    begins, stop = time.monotonic() + 0.1, asyncio.Event()
    clients = [Client("others", aim, Random(f"{seed}/{one}"), tally, stop, Pulse()) for one in range(OTHERS)]
    await asyncio.gather(
        *(
            _ask(client, begins + number / RATE, begins + SECONDS, latencies)
            for number, client in enumerate(clients)
        )
    )
    return sorted(latencies)[int(len(latencies) * 0.99)] if latencies else inf


async def _ask(client: Client, due: float, ends: float, latencies: list[float]) -> None:
    """One client's share of the rate."""
    try:
        connection = await Connection.open(client.aim)
        while due < ends:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            name = client.name()
            answer = await connection.ask(request(f"/size/{_SIZE}", name, cookie=client.cookie))
            check(answer, name, _SIZE)
            client.cookie = session(answer, client.cookie)
            client.good()
            latencies.append(time.monotonic() - due)
            due += OTHERS / RATE
            if answer.closes:
                connection.close()
                connection = await Connection.open(client.aim)
        connection.close()
    except (WrongError, OSError) as error:
        client.tally.fault(client.kind, str(error) or type(error).__name__)


class Used:
    """What has used the soak's cores since this was made."""

    def __init__(self) -> None:
        self._began, self._all, self._ours = time.monotonic(), _busy(), machine.cpu(os.getpid())

    def foreign(self) -> float:
        """The share of a core that was not the soak's own processes'."""
        every, ours = _busy() - self._all, machine.cpu(os.getpid()) - self._ours
        return max(0.0, (every - ours) / (time.monotonic() - self._began))


def _busy() -> float:
    """Seconds that the two cores were not idle."""
    times = map(machine.core_times, (machine.PROXY_CORE, machine.LOAD_CORE))
    return sum(total - idle for idle, total in times) / _TICKS
