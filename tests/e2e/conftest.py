"""One installed release for most of the tests, and a namespace of its own for each module that needs one."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e import faults, kube, manifests
from tests.e2e.load import Crowd

CHART = Path(__file__).parents[2] / "deploy/helm/stickyroute"
ORDER = [
    "names",
    "install",
    "crd",
    "routes",
    "tls",
    "traffic",
    "sessions",
    "identity",
    "pods",
    "failover",
    "limits",
    "keys",
    "latency",
    "scaling",
    "autoscaling",
    "drain",
    "settings",
    "invariants",
    "upgrade",
    "faults",
    "uninstall",
]
"""Modules by dependence: the first needs no cluster, the second installs, the last takes it all away."""

collect_ignore = [] if os.environ.get("STICKYROUTE_INVARIANTS") else ["test_invariants.py"]
"""A run of its own: STICKYROUTE_INVARIANTS=SESSIONSxREQUESTSxSECONDS asks for it."""


def pytest_collection_modifyitems(items):
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    places = {f"test_{name}.py": place for place, name in enumerate(ORDER)}
    if unplaced := {item.path.name for item in here} - places.keys():
        names = ", ".join(sorted(unplaced))
        raise pytest.UsageError(f"{names}: give it a place in ORDER of tests/e2e/conftest.py")
    here.sort(key=lambda item: places[item.path.name])
    items[:] = [item for item in items if item.path.parent != Path(__file__).parent] + here


@dataclass(frozen=True)
class Image:
    repository: str
    tag: str
    pull_policy: str

    @property
    def name(self):
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True)
class Target:
    """Where the NodePorts answer."""

    address: str
    port: int
    tls_port: int


@dataclass
class Release:
    name: str
    namespace: str
    image: Image
    target: Target
    took: float = 0.0
    """Seconds from `helm install` to everything Ready."""

    @property
    def values(self):
        return [
            f"image.repository={self.image.repository}",
            f"image.tag={self.image.tag}",
            f"image.pullPolicy={self.image.pull_policy}",
            "demo.enabled=true",
            "podDeletionCost.enabled=true",
            "proxy.service.type=NodePort",
            f"proxy.service.nodePorts.http={self.target.port}",
            f"proxy.service.nodePorts.https={self.target.tls_port}",
        ]

    def helm(self, verb, *more):
        flags = [flag for value in [*self.values, *more] for flag in ("--set", value)]
        return kube.helm(verb, self.name, CHART, "-n", self.namespace, *flags)

    def deployment(self, component):
        return f"{self.name}-{component}"

    def pods(self, component):
        return kube.pods(
            self.namespace, f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        )

    def ready(self, component):
        """The pods of a component when all that its Deployment wants are Ready, and no other is."""
        wanted = kube.get("-n", self.namespace, "deployment", self.deployment(component))["spec"]["replicas"]
        found = self.pods(component)
        return found if len(found) == wanted and all(map(kube.is_ready, found.values())) else None

    def metrics(self, pod):
        """A proxy's metrics: {'name{labels}': value}."""
        text = kube.kubectl(
            "get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:9090/proxy/metrics"
        )
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def ask_each_proxy(self, host, path="/"):
        """{proxy: (status, answering pod)} of one request to each proxy's own port, past the Service."""
        script = (
            "import http.client, json, sys\n"
            "c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=10)\n"
            "c.request('GET', sys.argv[2], headers={'Host': sys.argv[1]})\n"
            "a = c.getresponse()\n"
            "print(a.status, json.load(a)['pod'] if a.status == 200 else '')"
        )
        answers = {
            pod: kube.kubectl("-n", self.namespace, "exec", pod, "--", "python", "-c", script, host, path)
            for pod in self.pods("proxy")
        }
        return {proxy: tuple(answer.strip("\n").split(" ")) for proxy, answer in answers.items()}

    def crowd(self, host, clients, **options):
        return Crowd(self.target, host, clients, **options)


@pytest.fixture(scope="session")
def image():
    return Image(
        os.environ.get("STICKYROUTE_IMAGE_REPOSITORY", "cluster.local/stickyroute"),
        os.environ.get("STICKYROUTE_IMAGE_TAG", "e2e"),
        os.environ.get("STICKYROUTE_IMAGE_PULL_POLICY", "Never"),
    )


@pytest.fixture(scope="session")
def release(image):
    """The chart, installed on an empty cluster."""
    target = Target(
        os.environ.get("STICKYROUTE_NODE_ADDRESS", "127.0.0.1"),
        int(os.environ.get("STICKYROUTE_NODE_PORT", "30080")),
        int(os.environ.get("STICKYROUTE_NODE_TLS_PORT", "30443")),
    )
    release = Release("stickyroute", "stickyroute", image, target)
    kube.apply("default", manifests.namespace(release.namespace))
    start = time.monotonic()
    release.helm("install")
    for component in ("operator", "proxy", "demo"):
        kube.until(f"{component} Ready", lambda component=component: release.ready(component), 120)
    release.took = time.monotonic() - start
    return release


@pytest.fixture(scope="module")
def place(request, release):
    """A namespace of the module's own, under the restricted Pod Security Standard."""
    name = "e2e-" + request.path.stem.removeprefix("test_").replace("_", "-")
    kube.apply("default", manifests.namespace(name))
    yield name
    kube.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def dungeon(image):
    """A privileged namespace: for pods on the node's own network, and for the killer."""
    kube.apply("default", manifests.namespace("e2e-privileged", "privileged"))
    kube.apply("e2e-privileged", faults.killer(image))
    yield "e2e-privileged"
    kube.kubectl("delete", "namespace", "e2e-privileged", "--wait=false")


@dataclass(frozen=True)
class Application:
    """The test application `web` of a namespace, its route and its host."""

    release: Release
    namespace: str
    host: str

    def crowd(self, clients, **options):
        return self.release.crowd(self.host, clients, **options)

    def pods(self):
        return kube.pods(self.namespace, "app=web")

    def seen(self):
        """{request id: [pods that saw it]} of every POST, from the ledger."""
        path = f"/api/v1/namespaces/{self.namespace}/services/{manifests.LEDGER}:8000/proxy/seen"
        return kube.run_json("kubectl", "get", "--raw", path)

    def status(self):
        return kube.get("-n", self.namespace, "stickyroute", "web")["status"]

    def settled(self, replicas):
        """Whether so many pods, and no others, take sessions by the route's status."""
        status = self.status()
        serving = [endpoint for endpoint in status["endpoints"] if endpoint["state"] == "Serving"]
        return status["endpointsReady"] == f"{replicas}/{replicas}" and len(serving) == replicas


@pytest.fixture(scope="module")
def application(place, release):
    """Three pods behind a StickyRoute that is Ready."""
    host = f"{place}.stickyroute.test"
    kube.apply(place, *manifests.application(release.image, "web", 3), manifests.route("web", host, ["web"]))
    kube.rollout(place, "ledger")
    kube.rollout(place, "web")
    kube.wait_ready(place, "web")
    application = Application(release, place, host)
    kube.until("three endpoints", lambda: application.settled(3), 20)
    return application
