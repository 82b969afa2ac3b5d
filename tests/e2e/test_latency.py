"""From a pod's change in the API to the last proxy serving by it."""

import json

from tests.e2e import kube, manifests

PORTS = "9001,9002,9003,9004"
AIM = 0.5
"""Seconds, the 99th percentile."""


def test_a_pod_change_reaches_the_last_proxy(release, place):
    host = "metered.stickyroute.test"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "meter"}}
    rule = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "patch"]}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "meter"},
        "rules": [rule],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "meter"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "meter"},
        "subjects": [{"kind": "ServiceAccount", "name": "meter", "namespace": place}],
    }
    backend = manifests.pod(release.image, "code", port=PORTS)
    kube.apply(
        place,
        manifests.code("code", "backend.py", "meter.py"),
        manifests.deployment("web", 1, backend),
        manifests.service("metered", 9001, selector=False),
        manifests.route("metered", host, ["metered"], persistence={"type": "None"}),
        account,
        role,
        binding,
    )
    kube.rollout(place, "web")
    (pod,) = kube.pods(place, "app=web").values()
    first = manifests.endpoint_slice(
        "metered-1",
        "metered",
        pod["status"]["podIP"],
        9001,
        uid=pod["metadata"]["uid"],
        pod_name="metered-9001",
    )
    kube.apply(place, first)
    kube.wait_ready(place, "metered")

    proxies = [pod["status"]["podIP"] for pod in release.pods("proxy").values()]
    env = {"NAMESPACE": place, "HOST": host, "PROXIES": ",".join(proxies), "PORTS": PORTS}
    spec = manifests.pod(
        release.image, "code", script="meter.py", env=env, account="meter", restartPolicy="Never"
    )
    kube.apply(place, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "meter"}, "spec": spec})

    def phase():
        found = kube.get("-n", place, "pod", "meter")["status"]["phase"]
        return found if found in {"Succeeded", "Failed"} else None

    ended = kube.until("the measurement", phase, 240, pause=1)
    output = kube.kubectl("-n", place, "logs", "meter")
    assert ended == "Succeeded", output
    measured = json.loads(output)
    for start, took in measured.items():
        took.sort()
        p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
        print(
            f"\npod change -> last of {len(proxies)} proxies serves by it, {start.replace('_', ' ')}, "
            f"{len(took)} times: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, max {took[-1] * 1e3:.0f} ms"
        )
    assert len(measured["from_sent"]) == 200
    assert sorted(measured["from_sent"])[197] <= AIM
