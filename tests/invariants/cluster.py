"""The cluster as the operator sees it: Services, EndpointSlices, Pods and StickyRoutes, and their changes."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.invariants.routes import DRAIN, STATEFUL

NAMESPACE = "t"
LINGER = 1.0
"""Seconds that a pod which is told to end still accepts connections, as after a preStop sleep."""
GRACE = 30


def moment(seconds):
    """A time as Kubernetes writes it: whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Pod:
    name: str
    uid: str
    service: str
    address: str
    born: float
    instance: int = 1
    started: float = 0.0
    ready: bool = True
    serving: bool = True
    deleted: float = 0.0
    version: int = 1

    @property
    def wanted(self):
        """The state that a proxy should have it in."""
        if self.deleted:
            return "Draining"
        return "Serving" if self.ready else "NotReady"


@dataclass
class Cluster:
    """Every change goes to the API, and to the log with what the proxies should have because of it."""

    api: object
    farm: object
    log: object
    network: str
    port: int
    pods: dict = field(default_factory=dict)
    numbers: object = field(default_factory=lambda: itertools.count(1))
    hosts: object = field(default_factory=lambda: itertools.count(1))
    versions: dict = field(default_factory=dict)
    free: list = field(default_factory=list)
    """Addresses of pods that are gone, the newest last."""
    ending: set = field(default_factory=set)

    def of(self, service):
        """The pods of a Service that are not on their way out, oldest first."""
        return [pod for pod in self.pods.values() if pod.service == service and not pod.deleted]

    # Pods

    async def start(self, service, *, reuse=False):
        number = next(self.numbers)
        name = self._ordinal(service) if service in STATEFUL else f"{service}-{number}"
        address = self.free.pop() if reuse and self.free else f"{self.network}.{next(self.hosts)}"
        now = time.time()
        version = self.versions.get(service, 1)
        pod = Pod(name, f"uid-{number}", service, address, now, started=now, version=version)
        await self.farm("start", pod, self.port)
        self.pods[pod.uid] = pod
        self._tell(pod, "started")
        self.put(pod)
        return pod

    def _ordinal(self, service):
        """The first name of a StatefulSet's pods that none has."""
        taken = {pod.name for pod in self.pods.values()}
        return next(name for number in itertools.count() if (name := f"{service}-{number}") not in taken)

    async def replace(self, pod):
        """As `kubectl delete pod`: its controller starts another, a StatefulSet once it has gone."""
        self.terminate(pod)
        if pod.service in STATEFUL:
            while pod.uid in self.pods:
                await asyncio.sleep(0.05)
        return await self.start(pod.service)

    def terminate(self, pod):
        """Tell a pod to end; it lingers, stops and is gone."""
        pod.deleted = time.time()
        pod.ready = False
        self._tell(pod, "terminating")
        self.put(pod)
        task = asyncio.create_task(self._end(pod))
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)

    async def _end(self, pod):
        await asyncio.sleep(LINGER + DRAIN.get(pod.service, 0.0))
        pod.serving = False
        self.put(pod)
        await self.farm("stop", pod, self.port)
        self._tell(pod, "stopped")
        await asyncio.sleep(0.5)
        del self.pods[pod.uid]
        self.api.remove("pods", pod.name, NAMESPACE)
        self.slice(pod.service)
        self._tell(pod, "gone")
        self.free.append(pod.address)

    async def crash(self, pod, away):
        """Its container ends; the kubelet notices, and starts another in the same pod."""
        self._tell(pod, "crashed")
        await self.farm("crash", pod, self.port)
        await asyncio.sleep(0.2)
        pod.ready = pod.serving = False
        self.put(pod)
        await asyncio.sleep(away)
        pod.instance += 1
        pod.started = time.time()
        await self.farm("start", pod, self.port)
        pod.ready = pod.serving = True
        self._tell(pod, "restarted")
        self.put(pod)

    async def blip(self, pod, seconds):
        """Not ready for so long; it answers all the while."""
        pod.ready = False
        self._tell(pod, "unready")
        self.put(pod)
        await asyncio.sleep(seconds)
        pod.ready = True
        self._tell(pod, "ready")
        self.put(pod)

    def _tell(self, pod, what):
        self.log.event(
            "pod",
            what=what,
            pod=pod.name,
            uid=pod.uid,
            service=pod.service,
            address=pod.address,
            instance=pod.instance,
        )

    # Objects

    def put(self, pod):
        version = f"v{pod.version}"
        if pod.service in STATEFUL:
            label, owner = "controller-revision-hash", {"kind": "StatefulSet", "name": pod.service}
        else:
            label, owner = "pod-template-hash", {"kind": "ReplicaSet", "name": f"{pod.service}-{version}"}
        meta = {
            "name": pod.name,
            "namespace": NAMESPACE,
            "uid": pod.uid,
            "labels": {label: version},
            "ownerReferences": [owner | {"controller": True}],
        }
        if pod.deleted:
            meta["deletionTimestamp"] = moment(pod.deleted + GRACE)
            meta["deletionGracePeriodSeconds"] = GRACE
        running = {"running": {"startedAt": moment(pod.started)}} if pod.serving else {"terminated": {}}
        status = {"state": running, "restartCount": pod.instance - 1}
        self.api.put(
            "pods",
            {
                "metadata": meta,
                "spec": {"terminationGracePeriodSeconds": GRACE},
                "status": {"phase": "Running", "containerStatuses": [status]},
            },
        )
        self.slice(pod.service)

    def slice(self, service):
        pods = [pod for pod in self.pods.values() if pod.service == service]
        entries = [
            {
                "addresses": [pod.address],
                "conditions": {
                    "ready": pod.ready,
                    "serving": pod.serving,
                    "terminating": bool(pod.deleted),
                },
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": NAMESPACE, "uid": pod.uid},
            }
            for pod in pods
        ]
        self.api.put(
            "endpointslices",
            {
                "metadata": {
                    "name": f"{service}-1",
                    "namespace": NAMESPACE,
                    "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": "IPv4",
                "ports": [{"port": self.port}],
                "endpoints": entries,
            },
        )
        self.log.event("wanted", service=service, pods={pod.uid: pod.wanted for pod in pods})

    def service(self, name):
        meta = {"name": name, "namespace": NAMESPACE}
        self.api.put("services", {"metadata": meta, "spec": {"ports": [{"port": 80}]}})

    def route(self, name, spec=None, namespace=NAMESPACE):
        """Create a StickyRoute, or change its spec."""
        known = self.api.get("stickyroutes", name, namespace)
        meta = (
            dict(known["metadata"])
            if known
            else {
                "name": name,
                "namespace": namespace,
                "generation": 0,
                "creationTimestamp": moment(time.time()),
            }
        )
        meta["generation"] += 1
        self.api.put(
            "stickyroutes",
            {
                "apiVersion": "stickyroute.dev/v1alpha1",
                "kind": "StickyRoute",
                "metadata": meta,
                "spec": spec,
                **({"status": known["status"]} if known and "status" in known else {}),
            },
        )
        self.log.event("route", route=f"{namespace}/{name}", generation=meta["generation"])

    def spec(self, name, namespace=NAMESPACE):
        return self.api.get("stickyroutes", name, namespace)["spec"]
