"""Carries out the events of a schedule on the stage."""

import asyncio
import base64
import contextlib
import json
import time
from dataclasses import replace

from tests.invariants import attack, cluster, routes
from tests.invariants.cluster import NAMESPACE
from tests.invariants.stage import RELEASE, SYSTEM
from tests.waiting import until

from stickyroute_api.control import SNAPSHOT_PATH
from stickyroute_operator.keys import COMMAND

LEAST, MOST = 2, 6
"""Pods of a Service."""
SETTLED = 3.0
"""Seconds in which a change without faults has reached every proxy."""
PODS = ("scale_out", "scale_in", "delete_pod", "rollout", "reuse", "blip", "crash")
SEVERAL = (*PODS, "release", "disable", "drain")
"""What befalls several Services at a time, where there are many."""
MANY = 8


class Director:
    def __init__(self, stage):
        self.stage = stage
        self.cluster = stage.cluster
        self.routes = routes.changing(stage.routes)
        self.changing = list(self.routes)
        self.stale = None
        """A snapshot of long ago, to be pushed again."""
        self.done = []

    async def follow(self, events, until_time):
        """Event after event until the time has come; what has begun comes to its end."""
        for event in events:
            if time.monotonic() + event.pause >= until_time:
                return
            await asyncio.sleep(event.pause)
            self.stage.log.event("begins", kind=event.kind)
            told = await self._carry_out(event)
            self.done.append(f"{event.kind} {told or ''}".strip())
            self.stage.log.event("ends", kind=event.kind, of=told or "")

    async def _carry_out(self, event):
        do = getattr(self, event.kind)
        if event.kind not in SEVERAL or len(self.changing) < MANY:
            return await do(event)
        others = [replace(event, where=(event.where + third / 3) % 1.0) for third in range(3)]
        return ", ".join(filter(None, await asyncio.gather(*map(do, others))))

    async def start(self):
        """Before the load: what later events need of the beginning, which is past for every proxy."""
        proxies = list(self.stage.proxies.values())
        self.stale = await self.stage.snapshot(proxies[0])
        await self.epoch(None)
        for proxy in proxies:
            while await self.stage.snapshot(proxy) == self.stale:
                await asyncio.sleep(0.1)

    # Pods

    def _pod(self, event):
        service = event.pick(self.changing)
        pods = self.cluster.of(service)
        return pods[int(event.size * len(pods))]

    async def scale_out(self, event):
        service = event.pick(self.changing)
        new = 1 + int(event.size * 2)
        pods = [
            await self.cluster.start(service) for _ in range(min(new, MOST - len(self.cluster.of(service))))
        ]
        await asyncio.sleep(0.5)
        return ", ".join(pod.name for pod in pods)

    async def scale_in(self, event):
        service = event.pick(self.changing)
        pods = self.cluster.of(service)
        gone = pods[LEAST:][-1 - int(event.size * 2) :]
        for pod in gone:
            self.cluster.terminate(pod)
        await asyncio.sleep(0.5)
        return ", ".join(pod.name for pod in gone)

    async def delete_pod(self, event):
        pod = self._pod(event)
        new = await self.cluster.replace(pod)
        await asyncio.sleep(0.3)
        return f"{pod.name}, then {new.name}"

    async def rollout(self, event):
        """New pods one by one, each in place of an old one."""
        service = event.pick(self.changing)
        old = self.cluster.of(service)
        self.cluster.versions[service] = self.cluster.versions.get(service, 1) + 1
        for pod in old:
            if service in routes.STATEFUL:
                await self.cluster.replace(pod)
                continue
            await self.cluster.start(service)
            await asyncio.sleep(0.4)
            self.cluster.terminate(pod)
        return service

    async def reuse(self, event):
        """A pod goes, and a new one gets its address."""
        pod = self._pod(event)
        self.cluster.terminate(pod)
        await until(lambda: pod.uid not in self.cluster.pods, 15)
        await asyncio.sleep(1.0)
        new = await self.cluster.start(pod.service, reuse=True)
        return f"{new.name} at the address of {pod.name}"

    async def blip(self, event):
        pod = self._pod(event)
        await self.cluster.blip(pod, 0.3 + event.size)
        return pod.name

    async def crash(self, event):
        pod = self._pod(event)
        await self.cluster.crash(pod, 0.3 + event.size)
        return pod.name

    # Policy

    def _change(self, route, **fields):
        self.cluster.route(route, self.cluster.spec(route) | fields)

    async def weights(self, event):
        """The canary's share: none, some, all."""
        share = int(event.size * 11) * 10
        spec = self.cluster.spec("shop")
        (rule,) = spec["rules"]
        backends = [
            backend | {"weight": weight}
            for backend, weight in zip(rule["backends"], (100 - share, share), strict=True)
        ]
        self._change("shop", rules=[rule | {"backends": backends}])
        return f"canary {share} %"

    async def epoch(self, _event):
        policy = self.cluster.spec("shop")["persistence"]
        self._change("shop", persistence=policy | {"epoch": policy.get("epoch", 0) + 1})

    async def _override(self, event, action):
        pod = self._pod(event)
        # Bindings of the second in which `since` lies may be older or newer: better none of them.
        order = {"pod": pod.name, "action": action}
        if action == "Release":
            order["since"] = cluster.moment(time.time())
        route = self.routes[pod.service]
        self._change(route, overrides=[order])
        await asyncio.sleep(1.0 + event.size)
        self._change(route, overrides=[])
        return pod.name

    async def release(self, event):
        return await self._override(event, "Release")

    async def disable(self, event):
        return await self._override(event, "Disable")

    async def drain(self, event):
        return await self._override(event, "Drain")

    async def rotate(self, _event):
        """A key rotation by command; it is over when the new key seals."""
        name = f"{RELEASE}-token-keys"
        secret = self.stage.api.get("secrets", name, SYSTEM)
        before = self._sealed(name)
        meta = {**secret["metadata"], "annotations": {COMMAND: "now"}}
        self.stage.api.put("secrets", {**secret, "metadata": meta})
        with contextlib.suppress(AssertionError):
            await until(lambda: self._sealed(name) > before, 5)

    def _sealed(self, name):
        content = base64.b64decode(self.stage.api.get("secrets", name, SYSTEM)["data"]["keys.json"])
        return sum("seals_from" in key for key in json.loads(content))

    async def bad_routes(self, _event):
        """Routes that cannot work, that want another's host, and many of them."""
        put, thief = self.cluster.route, routes.specs(["quiet"])["quiet"]
        put("wrong", {"className": "stickyroute", "rules": "none"}, "evil")
        put("thief", thief, "evil")
        put("twin", thief | {"persistence": {"type": "None"}})
        for number in range(100):
            put(f"many-{number}", thief | {"hosts": [f"h{number}.test"]}, "evil")
        await asyncio.sleep(2.0)
        for key in [key for key in self.stage.api.objects if key[0] == "stickyroutes" and key[1] == "evil"]:
            self.stage.api.remove("stickyroutes", key[2], "evil")
        self.stage.api.remove("stickyroutes", "twin", NAMESPACE)

    # Our own processes

    async def kill_proxy(self, event):
        proxy = event.pick(self.stage.serving)
        await self.stage.kill_proxy(proxy)
        await asyncio.sleep(0.2 + event.size)
        await self.stage.start_proxy(proxy)
        return proxy.name

    async def restart_proxy(self, event):
        """As a rollout does: a new one first."""
        proxy = event.pick(self.stage.serving)
        new = await self.stage.add_proxy(proxy.workers)
        await self.stage.drain_proxy(proxy)
        return f"{proxy.name}, after {new.name}"

    async def kill_operator(self, event):
        """The operator is away; meanwhile a pod goes, and a proxy begins anew from its disk."""
        await asyncio.sleep(SETTLED)
        await self.stage.kill_operator()
        pod = self._pod(event)
        if event.size < 0.5:
            await asyncio.sleep(0.5)
            proxy = event.pick(self.stage.serving)
            await self.stage.kill_proxy(proxy)
            await self.stage.start_proxy(proxy)
            told = proxy.name
        else:
            await self.cluster.replace(pod)
            await asyncio.sleep(1.0 + event.size)
            told = pod.name
        await self.stage.start_operator()
        await self.in_step()
        return told

    async def store_slow(self, event):
        """Answers come late, or none comes for a while."""
        share = 0.6 if event.where < 0.5 else 1.0
        await self.stage.slow_store(0.8 + event.size, share)
        return "answers late" if share < 1.0 else "does not answer"

    async def store_away(self, event):
        await self.stage.empty_store(0.3 + event.size)

    async def api_outage(self, event):
        port = self.stage.api.port
        self.stage.log.event("api", what="away")
        await self.stage.api.stop()
        await asyncio.sleep(0.5 + event.size)
        self.stage.api.port = port
        await self.stage.api.start()
        self.stage.log.event("api", what="back")

    async def rival(self, _event):
        """An operator of the past pushes what it knew."""
        for proxy in self.stage.serving:
            status, _ = await self.stage.control(proxy, "PUT", SNAPSHOT_PATH, self.stale)
            self.stage.log.event("rival", proxy=proxy.name, status=status)

    async def attack(self, _event):
        for proxy in self.stage.serving:
            await attack.attack(proxy.http)

    async def in_step(self):
        """Until every route's status is true of what there is."""

        def settled(route):
            status = self.stage.status(route)
            generation = self.stage.api.get("stickyroutes", route, NAMESPACE)["metadata"]["generation"]
            fleet = status.get("fleet") or {}
            return (
                status.get("observedGeneration") == generation
                and self.stage.is_ready(route)
                and fleet.get("current") == len(self.stage.proxies) == fleet.get("proxies")
            )

        with contextlib.suppress(AssertionError):
            await until(lambda: all(map(settled, self.stage.routes)), 15)
