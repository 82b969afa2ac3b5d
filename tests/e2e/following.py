"""The logs of containers, followed from their first line while pods come and go."""

import asyncio
import contextlib
import json
import re
import time

import aiohttp
from tests.e2e import kube

LOOK = 0.4
"""Seconds between two looks at which pods there are."""
UNROUTED = 3.0
"""Seconds after a container's death in which the Service no longer sends clients to it."""


class Follower:
    """Reads the API as kubectl may, through `kubectl proxy`."""

    async def __aenter__(self):
        self._proxy = await asyncio.create_subprocess_exec(
            "kubectl", "proxy", "--port=0", stdout=asyncio.subprocess.PIPE
        )
        said = (await self._proxy.stdout.readline()).decode()
        port = re.search(r":(\d+)", said)[1]
        self._base = f"http://127.0.0.1:{port}/api/v1"
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0)
        )
        self._tasks, self._reading = [], []
        return self

    async def __aexit__(self, *_):
        for task in (*self._tasks, *self._reading):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._reading, return_exceptions=True)
        await self._http.close()
        self._proxy.kill()
        await self._proxy.wait()

    def follow(self, namespace, selector, begins, looked=lambda _pods: None):
        """`begins` is told of each container that runs, with its pod, and gives what takes its lines."""
        self._tasks.append(asyncio.create_task(self._follow(namespace, selector, begins, looked)))

    async def read(self):
        """Until every container that has ended was read to its end."""
        await asyncio.sleep(2 * LOOK)

    async def _follow(self, namespace, selector, begins, looked):
        known = set()
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                url = f"{self._base}/namespaces/{namespace}/pods"
                async with self._http.get(url, params={"labelSelector": selector}) as answer:
                    pods = (await answer.json())["items"]
                for pod in pods:
                    for container in pod["status"].get("containerStatuses", ()):
                        key = pod["metadata"]["uid"], container["restartCount"]
                        if "running" in container["state"] and key not in known:
                            known.add(key)
                            take = begins(pod, container["restartCount"])
                            self._reading.append(asyncio.create_task(self._lines(pod, take)))
                looked(pods)
            await asyncio.sleep(LOOK)

    async def _lines(self, pod, take):
        meta = pod["metadata"]
        url = f"{self._base}/namespaces/{meta['namespace']}/pods/{meta['name']}/log"
        with contextlib.suppress(aiohttp.ClientError):
            async with self._http.get(url, params={"follow": "true"}) as answer:
                rest = b""
                async for part in answer.content.iter_any():
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        take(line + b"\n")


class Fleet:
    """The proxies' lives as the checker reads them, and their logs."""

    def __init__(self, folder, log):
        self.folder, self.log = folder, log
        self.current = {}
        """The number of each proxy's present process."""
        self.unready = set()
        self.files = []

    def begins(self, pod, restarts):
        name = pod["metadata"]["name"]
        stem = f"proxy-{name}-{restarts}"
        self.current[name] = restarts
        self.unready.add(name)
        self.log.event("proxy", what="started", proxy=name, log=stem, utc=True)
        file = (self.folder / f"{stem}.out").open("ab", buffering=0)
        self.files.append(file)
        (self.folder / f"{stem}.err").symlink_to(f"{stem}.out")
        return file.write

    def looked(self, pods):
        present = {pod["metadata"]["name"]: pod for pod in pods}
        for name in self.unready & present.keys():
            restarts = present[name]["status"]["containerStatuses"][0]["restartCount"]
            if kube.is_ready(present[name]) and restarts == self.current[name]:
                self.unready.discard(name)
                self.log.event("proxy", what="ready", proxy=name)
        for name in self.current.keys() - present.keys():
            del self.current[name]
            # The kubelet may have taken the last lines with it.
            for what in ("torn", "out", "ended"):
                self.log.event("proxy", what=what, proxy=name)

    def close(self):
        for file in self.files:
            file.close()

    def kills(self, name):
        """Its process is about to be; Ready is then what the next one says."""
        self.current[name] = None
        self.unready.add(name)
        self.log.event("proxy", what="killed", proxy=name)
        self.log.event("proxy", what="out", proxy=name, time=time.time() + UNROUTED)


def split(events, pods):
    """What takes a pod's lines: its own events to one log, requests to the other."""

    def take(line):
        with contextlib.suppress(json.JSONDecodeError):
            fields = json.loads(line)
            (events if "event" in fields else pods).write(**fields)

    return take


async def until(what, ready, timeout=60):
    """Waits beside the load for what a blocking helper tells."""
    end = time.monotonic() + timeout
    while not await kube.off(ready):
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        await asyncio.sleep(0.3)
