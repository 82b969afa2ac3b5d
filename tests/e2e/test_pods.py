"""What happens to one pod, or is ordered for it: a restarted container, a drain, overrides."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from tests.e2e import kube, manifests
from tests.e2e.conftest import Application
from tests.e2e.load import failures, moves, sessions

DRAIN = 6
"""Seconds that bound sessions may stay on a pod that terminates."""
SERVES = 20
"""Seconds that a terminating pod goes on serving: more than its drain."""
PERSISTENCE = {"type": "Cookie", "idleTimeout": "30m", "drainTimeout": f"{DRAIN}s"}


@pytest.fixture(scope="module")
def steady(place, release):
    """Three pods that serve on while they terminate."""
    host = f"{place}.stickyroute.test"
    inner = manifests.pod(release.image, "code")
    inner["containers"][0]["lifecycle"] = {"preStop": {"sleep": {"seconds": SERVES}}}
    steady = Application(release, place, host)
    kube.apply(
        place,
        manifests.code("code", "backend.py"),
        manifests.deployment("web", 3, inner),
        manifests.service("web"),
    )
    say(steady)
    kube.rollout(place, "web")
    kube.wait_ready(place, "web")
    kube.until("three endpoints", lambda: steady.settled(3), 30)
    return steady


def say(application, persistence=PERSISTENCE, **spec):
    """Applies the route; returns when every proxy serves it."""
    spec = {"persistence": persistence, "overrides": [], **spec}
    kube.apply(application.namespace, manifests.route("web", application.host, ["web"], **spec))
    kube.until(
        "Programmed",
        lambda: (kube.condition(application.namespace, "web", "Programmed") or {}).get("status") == "True",
        30,
    )


def state(application, pod):
    return next((one for one in application.status()["endpoints"] if one["pod"] == pod), {})


def events(application, reason):
    found = kube.get("-n", application.namespace, "events", "--field-selector", f"reason={reason}")
    return [one["message"] for one in found["items"]]


async def test_a_restarted_container_keeps_its_sessions_and_tells_each_once(steady):
    async with steady.crowd(60) as crowd:
        await crowd.each(3)
        [(pod, number)] = sessions(crowd.records).most_common(1)
        end = ("exec", pod, "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        await kube.off(kube.kubectl, "-n", steady.namespace, *end)
        await kube.off(kube.until, "the restart told", lambda: state(steady, pod).get("restarts") == 1, 60)
        await kube.off(kube.until, "three endpoints", lambda: steady.settled(3), 60)
        await kube.off(kube.until, "the Event", lambda: events(steady, "ContainerRestarted"), 20)
        after = await crowd.each(3)
        assert failures(crowd.records) == []
        assert moves(crowd.records) == [], "the pod lives: nobody moves"
        told = [(record.client, record.pod, record.notice) for record in after if record.notice]
        assert {(at, notice) for _, at, notice in told} == {(pod, "ContainerRestarted")}
        assert len(told) == len({client for client, *_ in told}) == number
    assert pod in events(steady, "ContainerRestarted")[0]


async def test_a_drain_keeps_bound_sessions_to_its_deadline_and_not_longer(steady):
    async with steady.crowd(60) as crowd:
        await crowd.each(3)
        [(pod, number)] = sessions(crowd.records).most_common(1)
        await kube.off(kube.kubectl, "-n", steady.namespace, "delete", "pod", pod, "--wait=false")
        deleted = time.monotonic()
        await kube.off(kube.until, "it drains", lambda: state(steady, pod).get("state") == "Draining", 5, 0.1)
        await crowd.each()
        assert time.monotonic() < deleted + DRAIN, "too slow to tell"
        assert moves(crowd.records) == [], "its time is not up"
        async with steady.crowd(20) as fresh:
            assert pod not in sessions(await fresh.each()), "it takes no new sessions"
        await asyncio.sleep(deleted + DRAIN + 2 - time.monotonic())
        await crowd.each(2)
        moved = moves(crowd.records)
        assert failures(crowd.records) == []
        assert {(before, notice) for _, before, _, notice in moved} == {(pod, "PodTerminated")}
        assert len(moved) == number
    await kube.off(kube.until, "three endpoints", lambda: steady.settled(3), 60)


def test_a_grace_period_shorter_than_the_drain_is_a_condition_while_it_is_so(steady):
    def warning():
        return kube.condition(steady.namespace, "web", "GracePeriodTooShort")

    assert warning() is None
    say(steady, PERSISTENCE | {"drainTimeout": "60s"})
    found = kube.until("the condition", warning, 20)
    assert found["status"] == "True"
    assert all(word in found["message"] for word in ("Deployment web", "30 s", "1m", "70"))
    kube.until("the Event", lambda: events(steady, "GracePeriodTooShort"), 20)
    say(steady)
    kube.until("the condition gone", lambda: warning() is None, 20)


@pytest.mark.parametrize(
    ("action", "notice", "shown"),
    [("Disable", "PodDisabled", "Disabled"), ("Release", "Released", "Serving")],
)
async def test_an_override_ends_a_pods_sessions_with_its_own_word(steady, action, notice, shown):
    async with steady.crowd(60) as crowd:
        await crowd.each(3)
        [(pod, number)] = sessions(crowd.records).most_common(1)
        await asyncio.sleep(1.1)  # `since` has whole seconds
        order = {"pod": pod, "action": action}
        if action == "Release":
            order["since"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await kube.off(say, steady, overrides=[order])
        await crowd.each(3)
        moved = moves(crowd.records)
        assert failures(crowd.records) == []
        left = [record for record in crowd.records if record.notice]
        assert {record.notice for record in left} == {notice}
        assert len(left) == number
        assert {before for _, before, *_ in moved} <= {pod}
        if action == "Disable":
            assert len(moved) == number, "none may stay"
        await kube.off(kube.until, shown, lambda: state(steady, pod).get("state") == shown, 20)
        await kube.off(say, steady)
    await kube.off(kube.until, "three endpoints", lambda: steady.settled(3), 30)
