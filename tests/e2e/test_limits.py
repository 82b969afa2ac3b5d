"""Pods take as many sessions as the route says, over all proxies, and tell scale-in what they have."""

from collections import Counter

import pytest
from tests.e2e import kube, manifests
from tests.e2e.load import failures, sessions

LIMIT = 10
COST = "controller.kubernetes.io/pod-deletion-cost"


def say(application, **persistence):
    """Applies the route; returns when every proxy serves it."""
    policy = {"type": "Cookie", "idleTimeout": "30m", **persistence}
    kube.apply(application.namespace, manifests.route("web", application.host, ["web"], persistence=policy))
    kube.wait_ready(application.namespace, "web")


def cost(pod):
    return int(pod["metadata"].get("annotations", {}).get(COST, 0))


@pytest.fixture(scope="module")
def limited(application):
    say(application, limits={"maxSessionsPerPod": LIMIT}, podDeletionCost=True)
    return application


async def test_a_crowd_fills_each_pod_to_its_limit(limited):
    async with limited.crowd(60) as crowd:
        for _ in range(20):
            await crowd.each(2)
            if sum(sessions(crowd.records).values()) == 3 * LIMIT:
                break
        assert sessions(crowd.records) == Counter(dict.fromkeys(limited.pods(), LIMIT))
        assert {record.status for record in failures(crowd.records)} == {503}
        states = kube.until(
            "all pods are told of as full",
            lambda: {one["state"] for one in limited.status()["endpoints"]} == {"AtLimit"},
            40,
        )
        assert states


def test_pods_cost_what_they_have(limited):
    kube.until(
        "each pod's deletion cost",
        lambda: {cost(pod) for pod in limited.pods().values()} == {LIMIT},
        40,
    )
    say(limited)
    kube.until("it is taken back", lambda: not any(map(cost, limited.pods().values())), 40)
