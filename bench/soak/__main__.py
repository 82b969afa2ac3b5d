"""A proxy at high load while pods and clients come and go: `make soak`, or `python -m bench.soak --help`.

Every answer is checked; memory must not grow, slow clients must not harm the others, and with the load gone
nothing may be left of it.
"""

import argparse
import asyncio
import os
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop
from bench import machine
from bench.peers.stickyroute import StickyRoute
from bench.running import StartError
from bench.soak import kinds, report, verdict
from bench.soak.client import Tally
from bench.soak.load import Load, load
from bench.soak.slow import Slow, measure
from bench.soak.stage import Stage, stage

WARM_UP: Final = 60.0
"""Seconds of load before the idle counts are taken, in which clients of each kind are once at their most."""
SHARE: Final = 0.7
"""Of its core that the proxy is to be kept at."""
SETTLE: Final = 60.0
"""Seconds in which everything has to be given back: what is stalled has 30 of them."""


@dataclass(slots=True)
class Soaked:
    """What a soak saw."""

    tally: Tally = field(default_factory=Tally)
    load: Load = field(default_factory=Load)
    slow: Slow = field(default_factory=Slow)
    before: dict[str, float] = field(default_factory=dict)
    """What the idle proxy held after the warm-up."""
    after: dict[str, float] = field(default_factory=dict)
    """What it holds with the load gone."""
    faults: list[str] = field(default_factory=list)


def main() -> None:
    given = arguments().parse_args()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4))
    command = ["python", "-m", "bench.soak", "--minutes", f"{given.minutes:g}", "--seed", str(seed)]
    command += ["--share", f"{given.share:g}"] if given.share != SHARE else []
    command += ["--shared"] if given.shared else []
    clients = sum(count for _, count, _ in kinds.KINDS.values())
    facts = [
        f"Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"Version: {StickyRoute().version()}",
        f"Command: `{shlex.join(command)}`",
        f"Load: {given.minutes:g} minutes, {clients} clients at a time, {given.share:.0%} of a core wanted",
    ]
    print("\n".join(facts), flush=True)
    machine.prepare()
    with tempfile.TemporaryDirectory() as name:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                soaked = runner.run(soak(Path(name), given.minutes * 60, seed, given.share))
            if not given.shared:
                soaked.faults += verdict.harmed(soaked.slow.pairs, soaked.slow.void)
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
    parser.add_argument(
        "--share",
        type=float,
        default=SHARE,
        help=f"of its core that the proxy is to be kept at, as far as the load's allows (default: {SHARE:g})",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="with other work on this machine: the p99 beside slow clients is shown, and not judged",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the summary, such as docs/soak.md")
    return parser


async def soak(folder: Path, seconds: float, seed: int, share: float) -> Soaked:
    """Warm up, load, let slow clients crowd in, and look at what is left. Raises StartError."""
    soaked = Soaked()
    tally = soaked.tally
    async with stage(folder, seed) as made:
        await load(made, WARM_UP, f"{seed}/warm-up", tally, share)
        await settled(made, {})
        soaked.before = before = await made.idle_counts()
        print(f"idle after the warm-up: {report.counts(before)}", flush=True)
        tally.good.clear()
        soaked.load = await load(made, seconds, str(seed), tally, share)
        await settled(made, before)
        soaked.slow = await measure(made, seed, tally)
        soaked.after = after = await settled(made, before)
        print(f"idle after the load: {report.counts(after)}", flush=True)
        soaked.faults += tally.faults
        soaked.faults += verdict.unreturned(before, after)
        soaked.faults += verdict.grown(soaked.load.memory)
        soaked.faults += verdict.costly(soaked.slow.each)
        soaked.faults += made.told()
    return soaked


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
