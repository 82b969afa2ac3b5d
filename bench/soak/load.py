"""All kinds of clients at a proxy for some time, while its pods come and go."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bench import machine
from bench.soak import kinds, press
from bench.soak.client import Aim, Client, Tally
from bench.soak.pulse import Pulse
from bench.soak.stage import MEMORY, REQUESTS, SHED, Stage

CHURN: Final = 3.0
"""Mean seconds between two changes of the pods."""
ENDING: Final = 60.0
"""Seconds that visits have to come to their end."""


@dataclass(slots=True)
class Load:
    """What a proxy was asked, and what that took."""

    memory: list[float] = field(default_factory=list)
    """Resident bytes of the proxy, each second."""
    seconds: float = 0.0
    requests: int = 0
    """That the proxy counted."""
    shed: int = 0
    cpu: float = 0.0
    """The share of its core that the proxy used."""
    idle: float = 0.0
    """The share of its own core that the load left."""
    joined: int = 0
    left: int = 0


class Clients:
    """The tasks that make visits, by kind."""

    def __init__(self, aim: Aim, seed: str, tally: Tally) -> None:
        self._tally = tally
        self._stop = asyncio.Event()
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        pulse = Pulse()
        self._pulse = asyncio.create_task(pulse.run())
        for kind, (visit, count, pause) in kinds.KINDS.items():
            made = [
                Client(kind, aim, Random(f"{seed}/{kind}/{number}"), tally, self._stop, pulse)
                for number in range(count)
            ]
            self._tasks[kind] = [asyncio.create_task(kinds.run(visit, one, pause)) for one in made]

    def check(self) -> None:
        """Raises what ended one of them: a defect of the soak."""
        for tasks in self._tasks.values():
            for task in tasks:
                if task.done():
                    task.result()

    async def end(self) -> None:
        """Let the visits under way end; those that do not are faults."""
        self._stop.set()
        for kind in kinds.SLOW:
            for task in self._tasks[kind]:
                task.cancel()
        everything = [task for tasks in self._tasks.values() for task in tasks]
        await asyncio.wait(everything, timeout=ENDING)
        for kind, tasks in self._tasks.items():
            for task in tasks:
                if not task.done():
                    self._tally.fault(kind, f"a visit did not end within {ENDING:g} s of the load's end")
                    task.cancel()
        self._pulse.cancel()
        await asyncio.gather(self._pulse, *everything, return_exceptions=True)


async def load(made: Stage, seconds: float, seed: str, tally: Tally, share: float) -> Load:
    """Load for so many seconds, with which the proxy uses about that share of its core.

    Raises TimeoutError where the proxy does not take a push.
    """
    aim = Aim.at(made.port, made.tls_port)
    async with press.pressed(aim, f"{seed}/{press.KIND}", tally) as at_rate:
        return await _load(made, seconds, seed, tally, Rate(made.process.pid, share, at_rate))


class Rate:
    """The rate of small requests, by what proxy and load have used of their cores."""

    def __init__(self, pid: int, share: float, at_rate: Callable[[float], None]) -> None:
        self._pid = pid
        self._share = share
        self._set = at_rate
        self._rate = press.FIRST
        self._began, self._cpu, self._idle = time.monotonic(), machine.cpu(pid), machine.Idle()
        at_rate(self._rate)

    def adapt(self) -> None:
        now, cpu = time.monotonic(), machine.cpu(self._pid)
        used = (cpu - self._cpu) / (now - self._began)
        self._rate = press.adapted(self._rate, used, self._idle.share(), self._share)
        self._began, self._cpu, self._idle = now, cpu, machine.Idle()
        self._set(self._rate)


async def _load(made: Stage, seconds: float, seed: str, tally: Tally, rate: Rate) -> Load:
    done = Load()
    before, cpu, idle = await made.metrics(), machine.cpu(made.process.pid), machine.Idle()
    joined, left = made.fleet.joined, made.fleet.left
    clients = Clients(Aim.at(made.port, made.tls_port), seed, tally)
    churning = asyncio.create_task(churn(made, Random(f"{seed}/churn")))
    began = told = time.monotonic()
    shown = len(tally.faults)
    try:
        while (now := time.monotonic()) < began + seconds:
            read = await made.metrics()
            done.memory.append(read[MEMORY])
            if now >= told + 60:
                told = now
                print(
                    f"{(now - began) / 60:.0f} min: "
                    f"{read[REQUESTS] - before.get(REQUESTS, 0.0):,.0f} requests, "
                    f"{read[MEMORY] / 1e6:.1f} MB, {tally.bad.total()} faults",
                    flush=True,
                )
            for fault in tally.faults[shown:]:
                print(f"after {now - began:.0f} s: {fault}", flush=True)
            shown = len(tally.faults)
            clients.check()
            if churning.done():
                churning.result()
            await asyncio.sleep(1)
            rate.adapt()
        after = await made.metrics()
        done.seconds = time.monotonic() - began
        done.requests, done.shed = (
            round(after.get(name, 0.0) - before.get(name, 0.0)) for name in (REQUESTS, SHED)
        )
        done.cpu = (machine.cpu(made.process.pid) - cpu) / done.seconds
        done.idle = idle.share()
        done.joined, done.left = made.fleet.joined - joined, made.fleet.left - left
    finally:
        churning.cancel()
        await clients.end()
        await asyncio.gather(churning, return_exceptions=True)
    return done


async def churn(made: Stage, random: Random) -> None:
    while True:
        await asyncio.sleep(CHURN * (0.5 + random.random()))
        await made.push()
