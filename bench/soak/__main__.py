"""A proxy at high load while pods and clients come and go: `make soak`, or `python -m bench.soak --help`.

Every answer is checked; memory must not grow, and with the load gone nothing may be left of it.
"""

import argparse
import asyncio
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import uvloop
from bench import machine
from bench.peers.stickyroute import StickyRoute
from bench.running import StartError
from bench.soak import kinds, report, verdict
from bench.soak.client import Aim, Client, Tally
from bench.soak.stage import MEMORY, REQUESTS, SHED, Stage, stage

WARM_UP: Final = 15.0
"""Seconds of load before the idle counts are taken."""
CHURN: Final = 3.0
"""Mean seconds between two changes of the pods."""
SETTLE: Final = 60.0
"""Seconds in which everything has to be given back: what is stalled has 30 of them."""
ENDING: Final = 15.0
"""Seconds that visits have to come to their end."""


@dataclass(slots=True)
class Soaked:
    """What a soak saw."""

    tally: Tally
    memory: list[float] = field(default_factory=list)
    """Resident bytes of the proxy, each second."""
    seconds: float = 0.0
    requests: int = 0
    """That the proxy counted."""
    shed: int = 0
    cpu: float = 0.0
    """The share of its core that the proxy used."""
    joined: int = 0
    left: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    given = arguments().parse_args()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4))
    command = ["python", "-m", "bench.soak", "--minutes", f"{given.minutes:g}", "--seed", str(seed)]
    clients = sum(count for _, count, _ in kinds.KINDS.values())
    facts = [
        f"Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"Version: {StickyRoute().version()}",
        f"Command: `{shlex.join(command)}`",
        f"Load: {given.minutes:g} minutes, {clients} clients at a time",
    ]
    print("\n".join(facts), flush=True)
    machine.prepare()
    with tempfile.TemporaryDirectory() as name:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                soaked = runner.run(soak(Path(name), given.minutes * 60, seed))
        except StartError as error:
            raise SystemExit(str(error)) from None
    summary = report.summary(soaked)
    print(f"\n{summary}")
    if given.write is not None:
        given.write.write_text(report.document(facts, soaked))
    sys.exit(1 if soaked.faults else 0)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument(
        "--minutes",
        type=float,
        default=float(os.environ.get("SOAK_MINUTES", "30")),
        help="of load, after a warm-up (default: SOAK_MINUTES, else 30)",
    )
    parser.add_argument(
        "--seed", type=int, help="what clients and pods do follows from it (default: a new one)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the summary, such as docs/soak.md")
    return parser


async def soak(folder: Path, seconds: float, seed: int) -> Soaked:
    """Warm up, load, and look at what is left. Raises StartError."""
    soaked = Soaked(Tally())
    async with stage(folder, seed) as made:
        await load(made, WARM_UP, f"{seed}/warm-up", Soaked(soaked.tally))
        await settled(made, {})
        before = await made.idle_counts()
        print(f"idle after the warm-up: {report.counts(before)}", flush=True)
        soaked.tally.good.clear()
        await load(made, seconds, str(seed), soaked)
        after = await settled(made, before)
        print(f"idle after the load: {report.counts(after)}", flush=True)
        soaked.faults += soaked.tally.faults
        soaked.faults += verdict.unreturned(before, after)
        soaked.faults += verdict.grown(soaked.memory)
        soaked.faults += made.told()
    return soaked


async def load(made: Stage, seconds: float, seed: str, soaked: Soaked) -> None:
    """All kinds of clients for so many seconds, while pods come and go."""
    aim, stop = Aim.at(made.port, made.tls_port), asyncio.Event()
    before, cpu = await made.metrics(), machine.cpu(made.process.pid)
    joined, left = made.fleet.joined, made.fleet.left
    began = time.monotonic()
    tasks = {
        kind: [
            asyncio.create_task(
                kinds.run(
                    visit, Client(kind, aim, Random(f"{seed}/{kind}/{number}"), soaked.tally, stop), pause
                )
            )
            for number in range(count)
        ]
        for kind, (visit, count, pause) in kinds.KINDS.items()
    }
    churning = asyncio.create_task(churn(made, Random(f"{seed}/churn")))
    told = began
    while (now := time.monotonic()) < began + seconds:
        read = await made.metrics()
        soaked.memory.append(read[MEMORY])
        if now >= told + 60:
            told = now
            print(
                f"{(now - began) / 60:.0f} min: {read[REQUESTS] - before[REQUESTS]:,.0f} requests, "
                f"{read[MEMORY] / 1e6:.1f} MB, {soaked.tally.bad.total()} faults",
                flush=True,
            )
        for task in [churning, *(one for some in tasks.values() for one in some)]:
            if task.done():
                task.result()  # raises what ended it: a defect of the soak, or a push that was not taken
        await asyncio.sleep(1)
    after = await made.metrics()
    soaked.seconds = time.monotonic() - began
    soaked.requests = round(after[REQUESTS] - before[REQUESTS])
    soaked.shed = round(after.get(SHED, 0.0) - before.get(SHED, 0.0))
    soaked.cpu = (machine.cpu(made.process.pid) - cpu) / soaked.seconds
    soaked.joined, soaked.left = made.fleet.joined - joined, made.fleet.left - left
    stop.set()
    churning.cancel()
    for kind in kinds.SLOW:
        for task in tasks[kind]:
            task.cancel()
    everything: Sequence[asyncio.Task[None]] = [churning, *(one for some in tasks.values() for one in some)]
    await asyncio.wait(everything, timeout=ENDING)
    for kind, some in tasks.items():
        for task in some:
            if not task.done():
                soaked.tally.fault(kind, f"a visit did not end within {ENDING:g} s of the load's end")
                task.cancel()
    await asyncio.gather(*everything, return_exceptions=True)


async def churn(made: Stage, random: Random) -> None:
    while True:
        await asyncio.sleep(CHURN * (0.5 + random.random()))
        await made.push()


async def settled(made: Stage, idle: dict[str, float]) -> dict[str, float]:
    """The counts when they have come down to the idle ones, or stay the same, or time is over."""
    deadline = time.monotonic() + SETTLE
    seen = [await made.idle_counts()]
    while time.monotonic() < deadline:
        await asyncio.sleep(1)
        seen.append(await made.idle_counts())
        if idle and not verdict.unreturned(idle, seen[-1]):
            break
        if not idle and len(seen) > 10 and not seen[-1]["client connections"] and seen[-1] == seen[-6]:
            break
    return seen[-1]


if __name__ == "__main__":
    main()
