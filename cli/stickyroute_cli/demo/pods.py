"""Demo pods as processes: started, stopped and told to StickyRoute the way a cluster does it.

Each pod is a process on a free loopback port. Its Service, EndpointSlices and StickyRoute are files in one
folder that `stickyroute serve` follows; a stopping pod is first marked `terminating`, as on a cluster.
"""

import asyncio
import contextlib
import signal
import sys
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import yaml

State = Literal["Starting", "Running", "Terminating", "Stopped", "Failed"]

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
START_WITHIN = 20.0
LEAVE_WITHIN = 1.5
"""Seconds that a pod gets at the end of the demo; the proxy has let its requests end by then."""
READY_WORDS = "listening on "


class NotPossibleError(Exception):
    """The pod is not in a state for it; the text says which and what to do."""


@dataclass(slots=True)
class Pod:
    """One place in the Deployment; who fills it changes with each start."""

    ordinal: int
    name: str
    uid: str
    state: State = "Starting"
    port: int = 0
    why: str = ""
    """Why it failed."""
    process: asyncio.subprocess.Process | None = None
    words: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    """The last lines that it wrote."""

    def view(self) -> dict[str, Any]:
        """What the page shows of it."""
        address = f"127.0.0.1:{self.port}" if self.state in ("Running", "Terminating") else ""
        return {"name": self.name, "state": self.state, "why": self.why, "address": address}


class Pods:
    """The pods, their processes and their manifests."""

    def __init__(
        self,
        count: int,
        folder: Path,
        *,
        say: Callable[[str], None],
        random: Random,
        environment: Mapping[str, str],
    ) -> None:
        self._folder = folder
        self._say = say
        self._random = random
        self._environment = environment
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.control = ""
        """The URL under which pods reach their supervisor."""
        self.pods = [Pod(ordinal, *self._identity(ordinal)) for ordinal in range(1, count + 1)]

    def write(self) -> None:
        """Write the manifests, of pods as they are now."""
        _write(self._folder / "demo.yaml", route())
        self._publish()

    async def open(self) -> None:
        """Start every pod; returns when each runs or has failed."""
        await asyncio.gather(*(self._start(pod) for pod in self.pods))

    async def close(self) -> None:
        """End every process: asked at first, killed after a while."""
        self._closing = True
        running = [
            pod.process for pod in self.pods if pod.process is not None and pod.process.returncode is None
        ]
        for process in running:
            _signal(process, signal.SIGINT)
        if running:
            _, late = await asyncio.wait(
                [asyncio.create_task(process.wait()) for process in running], timeout=LEAVE_WITHIN
            )
            if late:
                for process in running:
                    _signal(process, signal.SIGKILL)
                await asyncio.wait(late)
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self, name: str) -> Pod:
        """Terminate one: marked in its EndpointSlice, then SIGTERM. NotPossibleError unless it runs."""
        pod = self._named(name)
        if pod.state != "Running" or pod.process is None:
            raise NotPossibleError(f"{name} is {pod.state}: only a running pod can be stopped")
        pod.state = "Terminating"
        self._publish()
        self._say(f"stopping pod {name}")
        _signal(pod.process, signal.SIGTERM)
        return pod

    def start(self, name: str) -> Pod:
        """Put a new pod in a stopped one's place: new name and UID. NotPossibleError unless stopped."""
        pod = self._named(name)
        if pod.state not in ("Stopped", "Failed"):
            raise NotPossibleError(f"{name} is {pod.state}: only a stopped pod can be replaced by a new one")
        pod.name, pod.uid = self._identity(pod.ordinal)
        pod.state, pod.why = "Starting", ""
        self._spawn(self._start(pod))
        return pod

    def view(self) -> list[dict[str, Any]]:
        return [pod.view() for pod in self.pods]

    def _named(self, name: str) -> Pod:
        for pod in self.pods:
            if pod.name == name:
                return pod
        raise NotPossibleError(
            f"there is no pod {name}; there are {', '.join(pod.name for pod in self.pods)}"
        )

    def _identity(self, ordinal: int) -> tuple[str, str]:
        suffix = "".join(self._random.choices(SUFFIX_LETTERS, k=3))
        return f"demo-{ordinal}-{suffix}", str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    async def _start(self, pod: Pod) -> None:
        pod.words.clear()
        process = pod.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stickyroute_cli.demo",
            env={
                **self._environment,
                "HOST": "127.0.0.1",
                "PORT": "0",
                "POD_NAME": pod.name,
                "DEMO_CONTROL": self.control,
                "DEMO_TIED": "1",
            },
            # Its standard input stays open as long as we live: it ends when that ends, however we end.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C in the terminal is for us; we pass it on.
            start_new_session=True,
        )
        ready = asyncio.get_running_loop().create_future()
        self._spawn(self._follow(pod, process, ready))
        try:
            pod.port = await asyncio.wait_for(ready, START_WITHIN)
        except TimeoutError:
            pod.why = f"was not ready after {START_WITHIN:g} s"
            _signal(process, signal.SIGKILL)
            return
        if pod.port and pod.state == "Starting":
            pod.state = "Running"
            self._publish()
            self._say(f"pod {pod.name} runs on 127.0.0.1:{pod.port}")

    async def _follow(
        self, pod: Pod, process: asyncio.subprocess.Process, ready: asyncio.Future[int]
    ) -> None:
        """Read what the process says until it ends, then take it out of its EndpointSlice."""
        stream = process.stdout
        assert stream is not None  # noqa: S101 - asked for above
        async for raw in stream:
            line = raw.decode("utf-8", "replace").strip()
            if line.startswith(READY_WORDS) and not ready.done():
                ready.set_result(int(line.rpartition(" ")[2]))
            else:
                pod.words.append(line)
        status = await process.wait()
        if not ready.done():
            ready.set_result(0)
        if self._closing:
            return
        if pod.state == "Terminating":
            pod.state = "Stopped"
            self._say(f"pod {pod.name} has stopped")
        else:
            pod.state = "Failed"
            pod.why = pod.why or _ending(status)
            last = f": {pod.words[-1]}" if pod.words else ""
            self._say(f"pod {pod.name} {pod.why}{last}; start a new one from the page")
        self._publish()

    def _publish(self) -> None:
        slices = [endpoint_slice(pod) for pod in self.pods if pod.state in ("Running", "Terminating")]
        _write(self._folder / "pods.yaml", slices)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def route() -> list[dict[str, Any]]:
    """The demo's Service and StickyRoute."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "demo", "namespace": "default"},
            "spec": {
                "selector": {"app": "demo"},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            },
        },
        {
            "apiVersion": "stickyroute.dev/v1alpha1",
            "kind": "StickyRoute",
            "metadata": {"name": "demo", "namespace": "default"},
            "spec": {
                "rules": [{"name": "app", "backends": [{"service": "demo", "port": "http"}]}],
                "persistence": {"type": "Cookie", "idleTimeout": "30m", "absoluteTimeout": "12h"},
            },
        },
    ]


def endpoint_slice(pod: Pod) -> dict[str, Any]:
    """A pod's EndpointSlice: one for each, because each has a port of its own."""
    terminating = pod.state == "Terminating"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"demo-{pod.ordinal}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "demo"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": pod.port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": ["127.0.0.1"],
                "conditions": {"ready": not terminating, "serving": True, "terminating": terminating},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": pod.name, "uid": pod.uid},
            }
        ],
    }


def _write(path: Path, documents: list[dict[str, Any]]) -> None:
    """Replace a file in one step: a reader sees the old one or the new one."""
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    draft.replace(path)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _ending(status: int) -> str:
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended by itself with status {status}"
