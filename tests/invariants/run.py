"""One run: the stage is set, attacked, loaded and disturbed; what is left are its logs."""

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.invariants import cluster
from tests.invariants.director import Director
from tests.invariants.schedule import schedule
from tests.invariants.stage import Stage

SETTLE = 6.0
"""Seconds after the attack, and at the end, in which everything is given back: idle connections are kept 4."""
CONVERGED = 10.0
"""Seconds after the last change in which all must be as declared."""


@dataclass(frozen=True)
class Plan:
    seed: str
    sessions: int = 300
    requests: int = 40
    seconds: float = 30.0
    kinds: tuple = ()
    """Of events; empty: all."""
    slow: int = 30
    """Requests of a thousand that the pod takes its time for."""
    attacked: bool = True
    calm: float = 12.0
    """Seconds at the end without events."""


@dataclass
class Run:
    folder: Path
    plan: Plan
    events: list = field(default_factory=list)


async def perform(plan, folder):
    """Leaves the logs of a run in the folder."""
    async with Stage(folder, plan.seed) as stage:
        director = Director(stage)
        await director.start()
        if plan.attacked:
            await director.attack(None)
            await asyncio.sleep(SETTLE)
            await _sample(stage, "before")
            await director.attack(None)
            await asyncio.sleep(SETTLE)
            await _sample(stage, "after")
        stage.log.event("load", what="begins")
        await stage.start_load(
            {
                "seed": plan.seed,
                "sessions": plan.sessions,
                "requests": plan.requests,
                "seconds": plan.seconds,
                "slow": plan.slow,
            }
        )
        # Every session has begun when the events do.
        begin = time.monotonic()
        await asyncio.sleep(0.1 * plan.seconds)
        await director.follow(schedule(plan.seed, plan.kinds), begin + plan.seconds - plan.calm)
        stage.log.event("calm")
        await stage.load_ended()
        await _final(stage, director)
    return Run(folder, plan, director.done)


async def _sample(stage, when):
    for proxy in stage.proxies.values():
        found = await stage.metrics(proxy)
        stage.log.event(
            "sample",
            when=when,
            proxy=proxy.name,
            fds=found["process_open_fds"],
            memory=found["process_resident_memory_bytes"],
            connections=found["stickyroute_connections_open"],
            upstreams=found["stickyroute_upstream_connections"],
        )


async def _final(stage, director):
    """What proxies and operator say at the end."""
    await asyncio.gather(*stage.cluster.ending)
    await director.in_step()
    await asyncio.sleep(SETTLE)
    await _sample(stage, "end")
    for proxy in stage.proxies.values():
        stage.log.event("report", proxy=proxy.name, report=await stage.report(proxy))
        decisions = {
            name: value
            for name, value in (await stage.metrics(proxy)).items()
            if name.startswith("stickyroute_decisions_total")
        }
        stage.log.event("decisions", proxy=proxy.name, counts=decisions)
    for route in cluster.specs():
        found = stage.api.get("stickyroutes", route, cluster.NAMESPACE)
        stage.log.event(
            "status",
            route=f"{cluster.NAMESPACE}/{route}",
            generation=found["metadata"]["generation"],
            status=found["status"],
        )


@contextlib.contextmanager
def kept(folder):
    """The folder given, or one that is gone afterwards."""
    if folder is not None:
        Path(folder).mkdir(parents=True)
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="invariants-") as name:
        yield Path(name)
