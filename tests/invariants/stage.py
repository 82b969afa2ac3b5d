"""The processes of a run: pods, proxies, operator and clients, over an API server of our own."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
import time

import aiohttp
from tests.component.operator.api import FakeApi
from tests.component.wire.valkeys import Server
from tests.invariants import cluster, logs, routes
from tests.waiting import free_port, until

from stickyroute_api.control import AFFINITY_PATH, SNAPSHOT_PATH
from stickyroute_operator import pki

FLEET, RELEASE, SYSTEM = "stickyroute", "sr", "system"
HOST = "127.0.0.1"
SETTINGS = {
    "trustedProxies": ["127.0.0.0/8"],
    "accessLog": {"mode": "All"},
    # A pod that ends without a word fails all of its clients at once: each is to have its second attempt.
    "retryBudget": {"percent": 100, "perSecond": 10000},
    "timeouts": {"head": "1s"},
}
WORKERS = (2, 1, 1)
"""Of the proxies that there are at first, the processes of each."""
START = 60.0
"""Seconds that anything may take to begin."""


class Child:
    """A process of a module here, which obeys lines and answers each."""

    def __init__(self):
        self.process = self.reading = None
        self.turn = asyncio.Lock()
        self.answers = asyncio.Queue()
        self.over = asyncio.Event()

    async def start(self, module, *arguments):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"tests.invariants.{module}",
            *map(str, arguments),
            env=environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        async for line in self.process.stdout:
            if line == b"ended\n":
                break
            self.answers.put_nowait(line)
        self.over.set()

    async def tell(self, order):
        """Give an order; returns when it has been obeyed, or nobody is left to do so."""
        async with self.turn:
            if self.over.is_set():
                return
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            waits = [asyncio.ensure_future(one) for one in (self.answers.get(), self.over.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()

    async def end(self):
        """The end of its input is its end."""
        if self.process is not None:
            self.process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), 5)
            await _kill(self.process)
            await self.reading


def environment(**more):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}


class Proxy:
    """One proxy pod; its process may begin anew on the same ports and disk."""

    def __init__(self, name, folder, workers):
        self.name, self.folder, self.workers = name, folder, workers
        self.http, self.control, self.admin = free_port(), free_port(), free_port()
        self.lives = 0
        self.process = None

    async def start(self):
        self.lives += 1
        stem = f"proxy-{self.name}-{self.lives}"
        with (self.folder / f"{stem}.out").open("wb") as out, (self.folder / f"{stem}.err").open("wb") as err:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "stickyroute_proxy",
                f"--http={HOST}:{self.http}",
                "--https=",
                f"--control={HOST}:{self.control}",
                f"--admin={HOST}:{self.admin}",
                f"--drain={HOST}:0",
                f"--name={self.name}",
                f"--tls-dir={self.folder / 'tls'}",
                f"--state-dir={self.folder / self.name}",
                f"--workers={self.workers}",
                "--drain-delay=1.5",
                "--grace=10s",
                env=environment(),
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return stem

    async def kill(self):
        """With its workers, as a container's end is."""
        if self.process is not None and self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()


class Stage:
    """All of it; `proxies` are those that there are, in rotation or not."""

    def __init__(self, folder, seed, given=routes.ALL):
        """`given`: the routes that there are."""
        self.folder, self.seed, self.routes = folder, seed, given
        self.log = logs.Log(folder / logs.EVENTS)
        self.api = FakeApi()
        self.farm, self.load = Child(), Child()
        self.store = Server() if "vault" in given else None
        self.operator = None
        self.proxies = {}
        self.rotation = {}
        self.names = 0
        self.operators = 0
        self.http = None
        self.cluster = None

    async def __aenter__(self):
        try:
            return await self._begin()
        except BaseException:
            await self.__aexit__()
            raise

    async def _begin(self):
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        await self.api.start()
        self.api.kubeconfig(self.folder / "kubeconfig")
        settings = dict(SETTINGS)
        if self.store is not None:
            await self.store.start()
            settings["store"] = {"address": f"{HOST}:{self.store.port}"}
        (self.folder / "settings.json").write_text(json.dumps(settings))
        for name in ("ca", "operator-tls", "proxy-tls", "token-keys"):
            self.api.put("secrets", {"metadata": {"name": f"{RELEASE}-{name}", "namespace": SYSTEM}})
        self.api.put("leases", {"metadata": {"name": f"{RELEASE}-operator", "namespace": SYSTEM}})
        await self.farm.start("farm", self.folder / logs.PODS)
        network = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}"
        self.cluster = cluster.Cluster(self.api, self._order, self.log, network, free_port(""))
        for service, count in routes.services(self.routes).items():
            self.cluster.service(service)
            for _ in range(count):
                await self.cluster.start(service)
        for name, spec in routes.specs(self.routes).items():
            self.cluster.route(name, spec)
        await self.start_operator()
        await until(lambda: "data" in self.api.get("secrets", f"{RELEASE}-proxy-tls", SYSTEM), START)
        (self.folder / "tls").mkdir()
        for field, value in self._secret("proxy-tls").items():
            (self.folder / "tls" / field).write_bytes(value)
        await asyncio.gather(*(self.add_proxy(workers) for workers in WORKERS))
        await until(lambda: all(self.is_ready(name) for name in self.routes), START, "routes Ready")
        return self

    async def __aexit__(self, *_):
        for task in tuple(self.cluster.ending) if self.cluster is not None else ():
            task.cancel()
        for proxy in self.proxies.values():
            await proxy.kill()
        await _kill(self.operator)
        await self.load.end()
        await self.farm.end()
        if self.store is not None:
            await self.store.stop()
        await self.http.close()
        await self.api.stop()
        self.log.close()

    async def _order(self, do, pod, port):
        order = {"do": do, "pod": pod.name, "uid": pod.uid, "instance": pod.instance}
        await self.farm.tell(order | {"address": pod.address, "port": port})

    def _secret(self, name):
        data = self.api.get("secrets", f"{RELEASE}-{name}", SYSTEM)["data"]
        return {field: base64.b64decode(value) for field, value in data.items()}

    def status(self, route):
        return self.api.get("stickyroutes", route, cluster.NAMESPACE).get("status") or {}

    def is_ready(self, route):
        conditions = self.status(route).get("conditions", ())
        return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)

    @property
    def serving(self):
        """The proxies in rotation."""
        return [self.proxies[name] for name in sorted(self.rotation)]

    # The operator

    async def start_operator(self):
        self.operators += 1
        self.log.event("operator", what="started")
        with (self.folder / f"operator-{self.operators}.log").open("wb") as out:
            self.operator = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.invariants.operating",
                str(self.folder / logs.EVENTS),
                f"--namespace={SYSTEM}",
                f"--release={RELEASE}",
                f"--settings={self.folder / 'settings.json'}",
                f"--health={HOST}:0",
                env=environment(
                    KUBECONFIG=str(self.folder / "kubeconfig"), POD_NAME=f"operator-{self.operators}"
                ),
                stdout=out,
                stderr=out,
            )

    async def kill_operator(self):
        self.operator.kill()
        self.log.event("operator", what="killed")
        await self.operator.wait()

    def context(self):
        """As the operator proves itself."""
        data = self._secret("operator-tls")
        identity = pki.Identity(FLEET, data[pki.AUTHORITY], data[pki.CERTIFICATE], data[pki.KEY])
        return identity.client_context()

    # Proxies

    async def add_proxy(self, workers):
        self.names += 1
        proxy = self.proxies[f"p{self.names}"] = Proxy(f"p{self.names}", self.folder, workers)
        await self.start_proxy(proxy)
        return proxy

    async def start_proxy(self, proxy):
        stem = await proxy.start()
        self.log.event("proxy", what="started", proxy=proxy.name, log=stem, workers=proxy.workers)
        self._list(proxy, ready=False)
        end = time.monotonic() + START
        while not await self._asks_ready(proxy):
            if time.monotonic() > end:
                self.log.event("proxy", what="unready", proxy=proxy.name)
                return
            await asyncio.sleep(0.05)
        self.log.event("proxy", what="ready", proxy=proxy.name)
        self._list(proxy, ready=True)
        self.rotation[proxy.name] = proxy.http
        await self.rotate()

    async def _asks_ready(self, proxy):
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self.http.get(f"http://{HOST}:{proxy.admin}/readyz") as answer:
                return answer.status == 200
        return False

    async def rotate(self):
        """Tell the clients which proxies there are."""
        if self.load.process is not None:
            await self.load.tell(self.rotation)

    async def kill_proxy(self, proxy):
        self.log.event("proxy", what="killed", proxy=proxy.name)
        await proxy.kill()
        self._list(proxy, ready=False)
        await self._out(proxy)

    async def drain_proxy(self, proxy):
        """As a rollout ends a pod: it is told, then leaves the rotation, then ends by itself."""
        self.log.event("proxy", what="stopping", proxy=proxy.name)
        proxy.process.send_signal(signal.SIGTERM)
        self._list(proxy, ready=False)
        await asyncio.sleep(0.3)
        await self._out(proxy)
        await asyncio.wait_for(proxy.process.wait(), START)
        self.log.event("proxy", what="ended", proxy=proxy.name)
        self.api.remove("endpointslices", proxy.name, SYSTEM)
        del self.proxies[proxy.name]

    async def _out(self, proxy):
        self.rotation.pop(proxy.name, None)
        await self.rotate()
        self.log.event("proxy", what="out", proxy=proxy.name)

    def _list(self, proxy, *, ready):
        labels = {"kubernetes.io/service-name": f"{RELEASE}-proxy-control"}
        target = {"kind": "Pod", "name": proxy.name}
        self.api.put(
            "endpointslices",
            {
                "metadata": {"name": proxy.name, "namespace": SYSTEM, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "control", "port": proxy.control}],
                "endpoints": [{"addresses": [HOST], "conditions": {"ready": ready}, "targetRef": target}],
            },
        )

    async def control(self, proxy, method, path, body=None):
        """A request to a proxy's control port: status and content."""
        url = f"https://{HOST}:{proxy.control}{path}"
        async with self.http.request(method, url, data=body, ssl=self.context()) as answer:
            return answer.status, await answer.read()

    async def snapshot(self, proxy):
        return (await self.control(proxy, "GET", SNAPSHOT_PATH))[1]

    async def report(self, proxy):
        return json.loads((await self.control(proxy, "GET", AFFINITY_PATH))[1])

    async def metrics(self, proxy):
        async with self.http.get(f"http://{HOST}:{proxy.admin}/metrics") as answer:
            text = await answer.text()
        lines = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, _, value in lines}

    # The store

    async def slow_store(self, seconds, share):
        """It answers nothing for that share of each fifth of a second; with 1.0 nothing at all."""
        self.log.event("store", what="slow")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.store.signal(signal.SIGSTOP)
            await asyncio.sleep(0.2 * share if share < 1.0 else seconds)
            self.store.signal(signal.SIGCONT)
            await asyncio.sleep(0.2 * (1.0 - share))
        self.log.event("store", what="well")

    async def empty_store(self, seconds):
        """It ends; another, that is empty, comes in its place."""
        self.log.event("store", what="away")
        await self.store.stop()
        await asyncio.sleep(seconds)
        await self.store.start()
        self.log.event("store", what="well")

    # Clients

    async def start_load(self, plan):
        await self.load.start("load", self.folder / logs.CLIENTS, json.dumps(plan | {"host": HOST}))
        await self.rotate()

    async def load_ended(self):
        await self.load.over.wait()
        assert await self.load.process.wait() == 0, "the clients' process failed"


async def _kill(process):
    if process is not None and process.returncode is None:
        process.kill()
        await process.wait()
