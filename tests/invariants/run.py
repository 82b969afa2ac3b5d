"""One run: the stage is set, attacked, loaded and disturbed; what is left are its logs."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.invariants import cluster, routes
from tests.invariants.director import Director
from tests.invariants.schedule import STORE, STORE_PAUSE, Event, schedule
from tests.invariants.stage import Stage


@dataclass(frozen=True)
class Plan:
    seed: str
    routes: tuple = routes.ALL
    sessions: int = 300
    requests: int = 40
    seconds: float = 30.0
    events: tuple = ()
    """(kind, where, size) of those that are to be; empty: what follows from the seed."""
    slow: int = 30
    """Requests of a thousand that the pod takes its time for."""
    lead: float = 0.1
    """The share of the seconds after which events begin: some sessions are there by then, others come later;
    from 0.3 on all are there."""
    attacked: bool = True
    calm: float = 12.0
    """Seconds at the end without events."""
    settle: float = 6.0
    """Seconds after the attack, and at the end, in which all is given back: idle connections are kept 4."""

    def schedules(self):
        """Events, in their order; each of these is followed for itself."""
        if self.events:
            return [[Event(0.3, *one) for one in self.events]]
        stores = [schedule(f"{self.seed} store", STORE, STORE_PAUSE)] if "vault" in self.routes else []
        return [schedule(self.seed), *stores]


async def perform(plan, folder):
    """Leaves the logs of a run in the folder; the events that there were, as texts."""
    async with Stage(folder, plan.seed, plan.routes) as stage:
        director = Director(stage)
        await director.start()
        if plan.attacked:
            await director.attack(None)
            await asyncio.sleep(plan.settle)
            await _sample(stage, "before")
            await director.attack(None)
            await asyncio.sleep(plan.settle)
            await _sample(stage, "after")
        stage.log.event("load", what="begins")
        await stage.start_load(
            {
                "seed": plan.seed,
                "routes": plan.routes,
                "sessions": plan.sessions,
                "requests": plan.requests,
                "seconds": plan.seconds,
                "slow": plan.slow,
            }
        )
        begin = time.monotonic()
        await asyncio.sleep(plan.lead * plan.seconds)
        end = begin + plan.seconds - plan.calm
        await asyncio.gather(*(director.follow(events, end) for events in plan.schedules()))
        stage.log.event("calm")
        await stage.load_ended()
        await _final(stage, director, plan.settle)
    return director.done


async def _sample(stage, when):
    for proxy in stage.serving:
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


async def _final(stage, director, settle):
    """What proxies and operator say at the end."""
    await asyncio.gather(*stage.cluster.ending)
    await director.in_step()
    # Numbers alone are written to a status every 5 s, and proxies are asked every 2.
    await asyncio.sleep(settle + 2.0)
    await _sample(stage, "end")
    for proxy in stage.serving:
        stage.log.event("report", proxy=proxy.name, report=await stage.report(proxy))
        decisions = {
            name: value
            for name, value in (await stage.metrics(proxy)).items()
            if name.startswith("stickyroute_decisions_total")
        }
        stage.log.event("decisions", proxy=proxy.name, counts=decisions)
    for route in stage.routes:
        found = stage.api.get("stickyroutes", route, cluster.NAMESPACE)
        stage.log.event(
            "status",
            route=f"{cluster.NAMESPACE}/{route}",
            generation=found["metadata"]["generation"],
            status=found["status"],
        )


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    asyncio.run(perform(Plan(**given), Path(sys.argv[1])))
