"""Upgrades of the product itself, under load."""

import time

import pytest
from tests.e2e import kube
from tests.e2e.load import amnesia, failures, moves, summary


@pytest.mark.parametrize("component", ["proxy", "operator"])
async def test_a_helm_upgrade_that_restarts_it_is_not_noticed(application, component):
    release = application.release
    before = set(release.pods(component))

    async def upgrade():
        await kube.off(release.helm, "upgrade", f"{component}.podAnnotations.restarted=t{int(time.time())}")
        await kube.off(kube.rollout, release.namespace, release.deployment(component), 180)
        await kube.off(kube.until, "all replaced", lambda: replaced(release, component, before), 120)

    async with application.crowd(60) as crowd:
        await crowd.each(2)
        await crowd.during(100, upgrade(), at_least=60)
        print(f"\n{component}: {summary(crowd.records)}")
        assert failures(crowd.records) == []
        assert moves(crowd.records) == []
        assert amnesia(crowd.records) == []
    kube.wait_ready(application.namespace, "web")


def replaced(release, component, before):
    ready = release.ready(component)
    gone = kube.kubectl("-n", release.namespace, "get", "pods", "-o", "name")
    return ready and not before & ready.keys() and not any(f"pod/{name}\n" in gone + "\n" for name in before)
