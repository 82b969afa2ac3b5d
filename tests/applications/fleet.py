"""An example as it stands in `examples/`, over pods and proxies that are processes of this machine."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from datetime import UTC, datetime
from pathlib import Path

import yaml
from tests.applications.front import Front
from tests.component.control.processes import start
from tests.component.control.support import FLEET, TOKEN_KEY, Authority
from tests.waiting import until

from stickyroute_api.snapshot import TokenKeys
from stickyroute_operator.objects import EndpointSlice, RouteObject, Service
from stickyroute_operator.publish import Publisher
from stickyroute_operator.translate import State, translate

EXAMPLES = Path(__file__).parents[2] / "examples"
PROXIES = 2
PODS = 3
PORT = "8000"
"""Where examples listen in their pods."""


def _free(ports):
    for port in ports:
        with contextlib.suppress(OSError):
            socket.create_server(("", port)).close()
            yield port


PORTS = _free(range(18000, 28000))
"""For pods: below those that the system gives to clients, one of which might have it before the pod."""


class Example:
    """The objects of an example's manifest; `policy` replaces parts of its persistence."""

    def __init__(self, path, **policy):
        self.folder = (EXAMPLES / path).parent
        objects = {one["kind"]: one for one in yaml.safe_load_all((EXAMPLES / path).read_text())}
        self.name = objects["Deployment"]["metadata"]["name"]
        (self.container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        self.service, self.route = objects["Service"], objects["StickyRoute"]
        self.route["spec"]["hosts"].append("localhost")  # names of example.com lead nowhere here
        self.route["spec"]["persistence"].update(policy)

    @property
    def command(self):
        """What the container runs once its packages are there."""
        return self.container["command"][-1].rpartition("exec ")[2].split()


class Pod:
    """One process of the application."""

    def __init__(self, example, number):
        self.name = f"{example.name}-{number}"
        self.conditions = {"ready": True, "serving": True, "terminating": False}
        self.lines = []
        self.port = next(PORTS)
        self._example = example
        self._process = None

    @property
    def log(self):
        return "\n".join(self.lines)

    async def start(self):
        command = [part.replace(PORT, str(self.port)) for part in self._example.command]
        paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self._process = await asyncio.create_subprocess_exec(
            *command,
            cwd=self._example.folder,
            env={
                **os.environ,
                "PATH": paths,
                "POD_NAME": self.name,
                "PORT": str(self.port),
                "PYTHONUNBUFFERED": "1",
            },
            stdout=PIPE,
            stderr=STDOUT,
        )
        self._reading = asyncio.create_task(self._read())
        async with asyncio.timeout(30):
            while not await self._answers():
                assert self._process.returncode is None, self.log
                await asyncio.sleep(0.1)

    async def end(self, word=signal.SIGTERM, grace=2):
        """As a kubelet does: asked first, then killed."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(word)
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._reading

    async def _read(self):
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip())

    async def _answers(self):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def slice(self, of):
        """This pod alone: each listens at a port of its own."""
        return EndpointSlice.from_manifest(
            {
                "metadata": {"name": self.name, "labels": {"kubernetes.io/service-name": of}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": self.port}],
                "endpoints": [
                    {
                        "addresses": ["127.0.0.1"],
                        "conditions": self.conditions,
                        "targetRef": {"kind": "Pod", "name": self.name, "uid": f"uid-{self.name}"},
                    }
                ],
            }
        )


class Fleet:
    """Pods behind proxies behind a front; the operator's own code tells the proxies of the pods."""

    def __init__(self, example, pods, publisher):
        self.pods = {pod.name: pod for pod in pods}
        self._publisher = publisher
        self._objects = (
            RouteObject.from_manifest(_named(example.route)),
            Service.from_manifest(example.service),
        )
        self._translation = None
        self._revision = 0

    async def publish(self):
        """Tell all proxies what is so now, and wait until they serve by it."""
        route, service = self._objects
        slices = [pod.slice(service.name) for pod in self.pods.values()]
        before = self._translation
        self._translation = translate(
            State(
                fleet=FLEET,
                keys=TokenKeys(sealing=1, keys={1: TOKEN_KEY}, hashing=TOKEN_KEY),
                routes={route.key: route},
                services={service.key: service},
                slices={one.key: one for one in slices},
                before=before.endpoints if before else {},
                now=datetime.fromtimestamp(time.time(), UTC),
                allow_loopback=True,
            ),
            before,
        )
        (verdict,) = self._translation.verdicts.values()
        assert verdict.accepted.status, verdict.accepted.message
        self._revision += 1
        wanted = self._translation.snapshot(epoch=1, revision=self._revision)
        self._publisher.publish(wanted)
        await until(lambda: all(one.acked == wanted.version for one in self._publisher.proxies.values()))

    async def terminate(self, name):
        """The pod is told to end, and serves for now."""
        self.pods[name].conditions.update(ready=False, terminating=True)
        await self.publish()

    async def delete(self, name):
        """The pod terminates, ends, and is seen to be gone."""
        await self.terminate(name)
        await self.pods[name].end()
        del self.pods[name]
        await self.publish()


def _named(route):
    return {**route, "metadata": {**route["metadata"], "uid": "uid-route", "generation": 1}}


@contextlib.asynccontextmanager
async def running(example, tmp_path):
    """The example's fleet, the front before it, and one before a pod that is alone."""
    authority = Authority()
    files = authority.write(tmp_path / "tls")
    context = authority.context()
    pods = [Pod(example, number) for number in range(PODS + 1)]
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_all, (pod.end(signal.SIGKILL) for pod in pods))
        starting = (start(f"--tls-dir={files}", f"--name=proxy-{number}") for number in range(PROXIES))
        proxies = await _all(stack.enter_async_context(one) for one in starting)
        await _all(pod.start() for pod in pods)
        publisher = Publisher(FLEET, lambda: context, lambda: None)
        stack.push_async_callback(publisher.close)
        publisher.target({f"proxy-{number}": one.address for number, one in enumerate(proxies)})
        *members, single = pods
        fleet = Fleet(example, members, publisher)
        await fleet.publish()
        front = await stack.enter_async_context(Front([one.http for one in proxies]))
        alone = await stack.enter_async_context(Front([single.port]))
        yield fleet, front, alone
        assert set(front.taken) == {one.http for one in proxies}, "not all proxies were asked"


async def _all(awaitables):
    return await asyncio.gather(*awaitables)
