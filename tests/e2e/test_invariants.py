"""Sessions over three proxies through random events, judged by the logs of clients, proxies and pods.

The checker, its client and its pods are those of tests/invariants. The events follow from the seed that is
printed. STICKYROUTE_INVARIANTS=1500x20x170 asks for it, 10000x50x900 for a full run: sessions, requests of
each, seconds. STICKYROUTE_INVARIANTS_WRITE names the page that the result is written to.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from tests.e2e import faults, kube, manifests
from tests.e2e.following import Fleet, Follower, split, until
from tests.invariants import cluster, logs, pod, recorder
from tests.invariants.__main__ import document
from tests.invariants.routes import DRAIN, OF_DEPLOYMENTS, changing, services, specs
from tests.invariants.verdict import judge

from stickyroute_operator.keys import COMMAND

SIZE = os.environ["STICKYROUTE_INVARIANTS"]
SESSIONS, REQUESTS, SECONDS = map(int, SIZE.split("x"))
PAGE = os.environ.get("STICKYROUTE_INVARIANTS_WRITE")
CALM = 30
"""Seconds at the end without events."""
VALUES = (
    "proxy.replicas=3",
    "trustedProxies={0.0.0.0/0}",
    "proxy.settings.accessLog.mode=All",
)
LINGER = 3.0
"""Seconds that a pod still accepts connections after SIGTERM, beside its route's drain."""
ROUTES = OF_DEPLOYMENTS
"""Without those that need a StatefulSet."""
CHANGING = tuple(changing(ROUTES))
HEAD = """# Invariants on a cluster

Sessions over three proxies of the chart on a real Kubernetes cluster, while Deployments are scaled and rolled
out, pods deleted, weights, epochs and keys changed, and proxies and the operator restarted at random.
Clients, proxies and pods log every request by its id; the checker of [invariants.md](invariants.md) judges
the logs. `make e2e-invariants` runs it and writes this page, on the cluster of KUBECONFIG, else on kind; the
seed makes the same events again.
"""
FLEET = "app.kubernetes.io/instance=stickyroute,app.kubernetes.io/component=proxy"
REPORT = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/operator/ca.crt")
context.check_hostname = False
context.load_cert_chain("/operator/tls.crt", "/operator/tls.key")
with urllib.request.urlopen(f"https://{sys.argv[1]}:9443/v1/affinity", timeout=10, context=context) as answer:
    print(answer.read().decode())
"""
"""What a proxy tells the operator, asked in its name."""


@pytest.fixture(scope="module")
def release(release):
    """Three proxies that log every request and believe the client's ids; and who records their snapshots."""
    _upgrade(release, *VALUES)
    spec = manifests.pod(
        release.image,
        "recorder",
        script="recorder.py",
        env={"FLEET": "stickyroute"},
        tls=f"{release.name}-proxy-tls",
        terminationGracePeriodSeconds=1,
    )
    spec["containers"][0]["volumeMounts"].append({"name": "operator", "mountPath": "/operator"})
    spec["volumes"].append({"name": "operator", "secret": {"secretName": f"{release.name}-operator-tls"}})
    meta = {"name": "recorder", "labels": {"app": "recorder"}}
    kube.apply(
        release.namespace,
        _code("recorder", recorder),
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec},
    )
    found = kube.until("the recorder", lambda: _running(release.namespace, "app=recorder"), 60)
    kube.apply(release.namespace, _as_proxy(release, found["recorder"]["status"]["podIP"]))
    yield release
    for kind in ("endpointslice", "pod", "configmap"):
        kube.kubectl("-n", release.namespace, "delete", kind, "recorder")
    _upgrade(release)


def _upgrade(release, *values):
    release.helm("upgrade", *values)
    for component in ("operator", "proxy"):
        kube.rollout(release.namespace, release.deployment(component), 180)
        kube.until(f"{component} Ready", lambda component=component: release.ready(component), 60)


def _running(namespace, selector):
    pods = kube.pods(namespace, selector)
    return pods if pods and all(map(kube.is_ready, pods.values())) else None


def _code(name, module):
    path = Path(module.__file__)
    meta = {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {path.name: path.read_text()}}


def _as_proxy(release, address):
    """The recorder as a proxy that is not ready: it is pushed to, and gets no client."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "recorder",
            "labels": {"kubernetes.io/service-name": f"{release.name}-proxy-control"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "control", "port": 9443, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": False, "serving": False, "terminating": False},
                "targetRef": {"kind": "Pod", "name": "recorder"},
            }
        ],
    }


@pytest.fixture(scope="module")
def routes(place, release):
    """The routes and Services of tests/invariants, as Deployments."""
    kube.apply(place, _code("pod", pod))
    for service, count in services(ROUTES).items():
        kube.apply(place, _deployment(release.image, service, count), manifests.service(service, 80))
    for name, spec in specs(ROUTES).items():
        kube.apply(place, _route(name, spec))
    for service in services(ROUTES):
        kube.rollout(place, service)
    for name in ROUTES:
        kube.wait_ready(place, name)
    return place


def _deployment(image, service, count):
    linger = LINGER + DRAIN.get(service, 0.0)
    spec = manifests.pod(image, "pod", script="pod.py", env={"LINGER": linger})
    (container,) = spec["containers"]
    container["env"].append({"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}})
    container["ports"] = [{"name": "http", "containerPort": 8000}]
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    made = manifests.deployment(service, count, spec)
    made["spec"]["template"]["metadata"]["labels"]["part"] = "invariants"
    return made


def _route(name, spec):
    return {
        "apiVersion": "stickyroute.dev/v1alpha1",
        "kind": "StickyRoute",
        "metadata": {"name": name},
        "spec": spec,
    }


@dataclass
class Schedule:
    """Random events, each of which waits until it is done with."""

    release: object
    namespace: str
    dungeon: str
    fleet: Fleet
    log: logs.Log
    random: Random
    specs: dict = field(default_factory=lambda: specs(ROUTES))
    counts: dict = field(default_factory=lambda: services(ROUTES))
    done: list = field(default_factory=list)

    async def follow(self, until_time):
        kinds = [
            self.scale_out,
            self.scale_in,
            self.delete_pod,
            self.rollout,
            self.weights,
            self.epoch,
            self.release_pod,
            self.rotate,
            self.kill_proxy,
            self.restart_proxies,
            self.kill_operator,
        ]
        left = []
        while time.monotonic() < until_time:
            left = left or self.random.sample(kinds, len(kinds))
            event = left.pop()
            told = await event()
            self.done.append(f"{event.__name__} {told or ''}".strip())
            await asyncio.sleep(self.random.uniform(0.5, 3.0))

    async def kubectl(self, *args, namespace=None):
        return await kube.off(kube.kubectl, "-n", namespace or self.namespace, *args)

    async def apply(self, name):
        await kube.off(kube.apply, self.namespace, _route(name, self.specs[name]))

    async def _scale(self, service):
        await self.kubectl("scale", f"deployment/{service}", f"--replicas={self.counts[service]}")
        await kube.off(kube.rollout, self.namespace, service)
        return f"{service} to {self.counts[service]}"

    async def scale_out(self):
        service = self.random.choice(CHANGING)
        self.counts[service] = min(6, self.counts[service] + self.random.randint(1, 2))
        return await self._scale(service)

    async def scale_in(self):
        service = self.random.choice(CHANGING)
        self.counts[service] = max(2, self.counts[service] - self.random.randint(1, 2))
        return await self._scale(service)

    async def _pod(self, service):
        return self.random.choice(sorted(await kube.off(kube.pods, self.namespace, f"app={service}")))

    async def delete_pod(self):
        name = await self._pod(self.random.choice(CHANGING))
        await self.kubectl("delete", "pod", name, "--wait=false")
        return name

    async def rollout(self):
        service = self.random.choice(CHANGING)
        await self.kubectl("rollout", "restart", f"deployment/{service}")
        await kube.off(kube.rollout, self.namespace, service)
        return service

    async def weights(self):
        share = 10 * self.random.randint(0, 10)
        web, canary = self.specs["shop"]["rules"][0]["backends"]
        web["weight"], canary["weight"] = 100 - share, share
        await self.apply("shop")
        return f"canary {share} %"

    async def epoch(self):
        policy = self.specs["shop"]["persistence"]
        policy["epoch"] = policy.get("epoch", 0) + 1
        await self.apply("shop")

    async def release_pod(self):
        name = await self._pod("web")
        self.specs["shop"]["overrides"] = [
            {"pod": name, "action": "Release", "since": cluster.moment(time.time())}
        ]
        await self.apply("shop")
        return name

    async def rotate(self):
        secret = f"{self.release.name}-token-keys"
        await self.kubectl(
            "annotate", "--overwrite", "secret", secret, f"{COMMAND}=now", namespace=self.release.namespace
        )
        await asyncio.sleep(5)

    async def kill_proxy(self):
        pods = await kube.off(self.release.pods, "proxy")
        name = self.random.choice(sorted(pods))
        self.fleet.kills(name)
        uid = pods[name]["metadata"]["uid"]
        await kube.off(faults.kill9, self.dungeon, uid, "stickyroute-proxy")
        await until("the proxy is back", lambda: name not in self.fleet.unready, 60)
        return name

    async def restart_proxies(self):
        deployment = self.release.deployment("proxy")
        await self.kubectl("rollout", "restart", f"deployment/{deployment}", namespace=self.release.namespace)
        await kube.off(kube.rollout, self.release.namespace, deployment, 180)
        await until("three proxies", lambda: self.release.ready("proxy"), 60)

    async def kill_operator(self):
        """In its container, and once that was begun anew with its pod: the kubelet waits ever longer."""
        ((name, found),) = (await kube.off(self.release.pods, "operator")).items()
        self.log.event("operator", what="killed")
        if found["status"]["containerStatuses"][0]["restartCount"]:
            end = ("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
            await self.kubectl(*end, namespace=self.release.namespace)
        else:
            await kube.off(faults.kill9, self.dungeon, found["metadata"]["uid"], "stickyroute-operator")
        await asyncio.sleep(5)


async def test_every_invariant_holds_on_a_cluster(routes, release, dungeon, tmp_path):
    await kube.off(kube.until, "the killer", lambda: _running(dungeon, ""), 60)
    seed = os.environ.get("INVARIANTS_SEED") or os.urandom(4).hex()
    print(f"\nINVARIANTS_SEED={seed}", flush=True)
    async with contextlib.AsyncExitStack() as stack:
        log, pods = (
            stack.enter_context(contextlib.closing(logs.Log(tmp_path / name)))
            for name in (logs.EVENTS, logs.PODS)
        )
        log.event("recorder")
        fleet = stack.enter_context(contextlib.closing(Fleet(tmp_path, log)))
        follower = await stack.enter_async_context(Follower())
        follower.follow(release.namespace, "app=recorder", lambda _pod, _restarts: split(log, log))
        follower.follow(release.namespace, FLEET, fleet.begins, fleet.looked)
        follower.follow(routes, "part=invariants", lambda _pod, _restarts: split(log, pods))
        await until("three proxies", lambda: len(fleet.current) == 3 and not fleet.unready, 20)
        log.event("load", what="begins")
        load = asyncio.create_task(_load(release, tmp_path, seed))
        schedule = Schedule(release, routes, dungeon, fleet, log, Random(seed))
        begin = time.monotonic()
        await asyncio.sleep(0.1 * SECONDS)
        await schedule.follow(begin + SECONDS - CALM)
        log.event("calm")
        await load
        await asyncio.sleep(10)
        await kube.off(_tell, release, routes, log)
        await follower.read()
    verdict = judge(tmp_path, routes)
    print(f"{len(schedule.done)} events: {'; '.join(schedule.done)}\n{verdict}")
    if PAGE:
        command = f"make e2e-invariants INVARIANTS_SEED={seed} STICKYROUTE_INVARIANTS={SIZE}"
        await kube.off(Path(PAGE).write_text, document(HEAD, command, schedule.done, verdict))
    assert not verdict.violations, f"seed {seed}\n{verdict}"
    assert verdict.moves.total() > 10, "nothing happened"


async def _load(release, folder, seed):
    """The clients, on the node: they know one address, that of the NodePort."""
    target = release.target
    plan = {
        "seed": seed,
        "routes": ROUTES,
        "host": target.address,
        "sessions": SESSIONS,
        "requests": REQUESTS,
        "seconds": SECONDS,
        "slow": 20,
    }
    clients = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.invariants.load",
        str(folder / logs.CLIENTS),
        json.dumps(plan),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    clients.stdin.write(json.dumps({"": target.port}).encode() + b"\n")
    try:
        async for line in clients.stdout:
            if line == b"ended\n":
                break
        assert await clients.wait() == 0, "the clients' process failed"
    finally:
        if clients.returncode is None:
            clients.kill()


def _tell(release, namespace, log):
    """What proxies and operator say at the end."""
    for name, found in release.pods("proxy").items():
        reading = ("exec", "recorder", "--", "python", "-c", REPORT, found["status"]["podIP"])
        report = json.loads(kube.kubectl("-n", release.namespace, *reading))
        log.event("report", proxy=name, report=report)
        counts = {
            key: value
            for key, value in release.metrics(name).items()
            if key.startswith("stickyroute_decisions_total")
        }
        log.event("decisions", proxy=name, counts=counts)
    for route in ROUTES:
        found = kube.get("-n", namespace, "stickyroute", route)
        log.event(
            "status",
            route=f"{namespace}/{route}",
            generation=found["metadata"]["generation"],
            status=found["status"],
        )
