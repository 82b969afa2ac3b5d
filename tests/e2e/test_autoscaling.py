"""A Deployment follows its sessions as docs/autoscaling.md says, and none moves that need not."""

import base64
import copy
import json
import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from tests.certificates import authorities, secret
from tests.e2e import kube, manifests
from tests.e2e.conftest import Application
from tests.e2e.load import amnesia, failures, moves, sessions, summary
from tests.e2e.test_limits import cost

PAGE = (Path(__file__).parents[2] / "docs/autoscaling.md").read_text()
SHOWN = [
    part for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) for part in yaml.safe_load_all(block)
]
(HPA,) = [part for part in SHOWN if part.get("kind") == "HorizontalPodAutoscaler"]
(RULE,) = [rule for part in SHOWN if "rules" in part for rule in part["rules"]["custom"]]
(PERSISTENCE,) = [part["persistence"] for part in SHOWN if part.get("persistence", {}).get("podDeletionCost")]

TARGET = 10
"""Sessions that a pod is to have."""
WINDOW = 15
"""Seconds that fewer sessions must last before pods go."""
IDLE = 20
"""Seconds after which an unused session ends."""
SERVICE = "v1beta2.custom.metrics.k8s.io"


@pytest.fixture(scope="module")
def adapter(place, release):
    """The custom metrics API, by the page's rule."""
    found = kube.kubectl("get", "apiservice", SERVICE, "--ignore-not-found", "-o", "name")
    assert not found, "this cluster has a custom metrics API of its own"
    assert RULE["metricsQuery"] == "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)", "what ours does"
    source = manifests.service("operator-metrics", 8081)
    source["spec"]["selector"] = {"app.kubernetes.io/component": "operator"}
    source["spec"]["ports"][0]["targetPort"] = "health"
    kube.apply(release.namespace, source)
    env = {
        "RULE": json.dumps(RULE),
        "METRICS": f"http://operator-metrics.{release.namespace}.svc:8081/metrics",
    }
    template = manifests.pod(
        release.image, "adapter", script="adapter.py", env=env, port=8443, account="adapter", tls="adapter"
    )
    (container,) = template["containers"]
    container["ports"] = [{"name": "http", "containerPort": 8443}]
    path = "/apis/custom.metrics.k8s.io/v1beta2"
    container["readinessProbe"] = {"httpGet": {"path": path, "port": 8443, "scheme": "HTTPS"}}
    rbac = "rbac.authorization.k8s.io"
    kube.apply(
        place,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "adapter"}},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": {"name": "adapter"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "adapter"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "adapter"},
            "subjects": [{"kind": "ServiceAccount", "name": "adapter", "namespace": place}],
        },
        manifests.secret("adapter", secret(f"adapter.{place}.svc", now=datetime.now(UTC))),
        manifests.code("adapter", "adapter.py"),
        manifests.deployment("adapter", 1, template),
        manifests.service("adapter", 443),
    )
    kube.rollout(place, "adapter")
    # The API server keeps its first connection and asks whoever answered there whether this API is available.
    kube.until("the adapter at its Service's address", lambda: answers(place, "adapter"), 30)
    group, version = "custom.metrics.k8s.io", "v1beta2"
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": SERVICE},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "adapter", "namespace": place},
            "caBundle": base64.b64encode(authorities().encode()).decode(),
        },
    }
    kube.apply(place, registration)
    yield
    # Left behind it would keep namespaces from being deleted.
    kube.kubectl("delete", "apiservice", SERVICE)
    kube.kubectl("-n", release.namespace, "delete", "service", "operator-metrics")


def answers(namespace, service):
    """Whether a Service's address is known to the node: what answers there has the Service's certificate."""
    address = kube.get("-n", namespace, "service", service)["spec"]["clusterIP"]
    context = ssl.create_default_context(cadata=authorities())
    try:
        with socket.create_connection((address, 443), timeout=2) as plain:
            context.wrap_socket(plain, server_hostname=f"{service}.{namespace}.svc").close()
    except OSError as error:
        raise AssertionError(f"{address}: {error}") from error
    return True


@pytest.fixture(scope="module")
def scaled(place, release, adapter):
    """Two pods under the page's HPA, for fewer sessions and less patience than it has."""
    host = f"{place}.stickyroute.test"
    hpa = copy.deepcopy(HPA)
    hpa["metadata"]["namespace"] = place
    hpa["spec"]["metrics"][0]["pods"]["target"]["averageValue"] = str(TARGET)
    hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = WINDOW
    kube.apply(
        place,
        manifests.code("code", "backend.py"),
        manifests.deployment("web", 2, manifests.pod(release.image, "code")),
        manifests.service("web"),
        manifests.route(
            "web",
            host,
            ["web"],
            persistence=PERSISTENCE | {"idleTimeout": f"{IDLE}s", "drainTimeout": "0s"},
            loadBalancing={"algorithm": "LeastSessions", "choices": 0},
        ),
    )
    kube.rollout(place, "web")
    kube.wait_ready(place, "web")
    application = Application(release, place, host)
    kube.until("two endpoints", lambda: application.settled(2), 20)
    kube.apply(place, hpa)
    kube.until("the autoscaler reads sessions", lambda: sees(application, 0), 60)
    return application


def sees(application, average):
    """Whether the autoscaler knows of so many sessions a pod; AssertionError if of none."""
    status = kube.get("-n", application.namespace, "hpa", "web").get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    active = conditions.get("ScalingActive", {})
    assert active.get("status") == "True", active
    return status["currentMetrics"][0]["pods"]["current"]["averageValue"] == str(average)


def part(crowd, browsers):
    """Some of a crowd, whose requests are recorded with the others'."""
    found = copy.copy(crowd)
    found.browsers = browsers
    return found


async def test_pods_come_and_go_with_sessions_and_the_emptiest_goes_first(scaled):
    def pods_are(number):
        return lambda: scaled.settled(number) and scaled.pods().keys()

    def told():
        found = kube.get("-n", scaled.namespace, "events", "--field-selector", "reason=SuccessfulRescale")
        return [one["message"] for one in found["items"]]

    async with scaled.crowd(30) as crowd:
        early, late = part(crowd, crowd.browsers[:24]), part(crowd, crowd.browsers[24:])
        before = set(scaled.pods())
        await early.each(2)
        # 24 sessions on two pods that are to have 10 each
        grown = set(await early.during(15, kube.off(kube.until, "a third pod", pods_are(3), 90)))
        (new,) = grown - before
        await early.during(15, late.each(2, parallel=1))
        assert moves(crowd.records) == [], "growing moves no session"
        held = sessions(crowd.records)
        assert set(held) == grown, "new sessions fill the new pod"
        print(f"\nscaled out: {dict(held)}; {told()}")

        # All but one leave the fuller of the old pods: it is the emptiest, though not the youngest.
        emptied = max(before, key=held.__getitem__)
        at = {record.client: record.pod for record in crowd.records}
        (last, *gone) = [number for number, pod in at.items() if pod == emptied]
        staying = part(crowd, [browser for browser in crowd.browsers if browser.number not in gone])
        assert held[new] > 1, "or else it would be as empty"
        shrunk = set(await staying.during(15, kube.off(kube.until, "two pods", pods_are(2), 120)))
        await staying.each(2)
        costs = {name: cost(pod) for name, pod in (await kube.off(scaled.pods)).items()}
        print(f"scaled in: {dict(sessions(staying.records))}; {told()}; {summary(crowd.records)}")

    assert shrunk == grown - {emptied}, "the emptiest pod goes"
    assert min(costs.values()) > 1, "and not by chance"
    assert [(client, pod, notice) for client, pod, _, notice in moves(crowd.records)] == [
        (last, emptied, "PodTerminated")
    ], "sessions on pods that stay, stay"
    assert failures(crowd.records) == []
    assert amnesia(crowd.records) == []
    assert any("stickyroute_pod_sessions above target" in message for message in told())
