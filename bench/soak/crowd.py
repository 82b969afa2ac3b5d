"""Slow clients in numbers, as a process: `python -m bench.soak.crowd PORT TLS_PORT SEED`.

Says when all have come, stays until its standard input ends, and says as JSON what was amiss.
"""

import asyncio
import os
import sys
from random import Random
from typing import Final

import uvloop
from bench.soak import kinds
from bench.soak.client import Aim, Client, Tally
from bench.soak.pulse import Pulse

KINDS: Final = ("trickled heads", "trickled bodies", "bodies that stop", "never reading")
EACH: Final = 100
"""Clients of each kind at a time: one that has been closed comes again."""
COUNT: Final = EACH * len(KINDS)
_RAMP: Final = 2.0
"""Seconds in which they come."""
_FILL: Final = 2.0
"""Seconds in which what they do not read fills all room for it."""


async def main(aim: Aim, seed: str) -> None:
    tally, stop, pulse = Tally(), asyncio.Event(), Pulse()
    tasks = [asyncio.create_task(pulse.run())]
    for number in range(EACH):
        for kind in KINDS:
            visit, _, pause = kinds.KINDS[kind]
            client = Client(kind, aim, Random(f"{seed}/{kind}/{number}"), tally, stop, pulse)
            tasks.append(asyncio.create_task(kinds.run(visit, client, pause)))
        await asyncio.sleep(_RAMP / EACH)
    await asyncio.sleep(_FILL)
    print("there", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    defects = [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]
    tally.faults += defects
    sys.stdout.write(tally.dump())


if __name__ == "__main__":
    # What it does must not delay those whose delay is measured: whoever wakes up goes first.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    port, tls_port, seed = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Aim.at(int(port), int(tls_port)), seed))
