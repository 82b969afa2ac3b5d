"""Sessions stay on a terminating pod, which ends when they are gone; WebSockets are told at the end."""

import asyncio
import re
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType
from tests.e2e import kube, manifests
from tests.e2e.conftest import Application
from tests.e2e.load import ToNode, failures, moves, sessions, summary

DOCS = (Path(__file__).parents[2] / "docs/draining.md").read_text()
WAIT = re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)[1]
"""The docs' own snippet; the image has Python."""


def waiting(image, name, **more):
    """A pod whose preStop asks the drain port."""
    template = manifests.pod(image, "code", terminationGracePeriodSeconds=180, **more)
    (container,) = template["containers"]
    container["env"].append(
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    )
    container["lifecycle"] = {"preStop": {"exec": {"command": ["python", "-c", WAIT]}}}
    return manifests.deployment(name, 3, template)


def policy(drain, idle="30m"):
    return {"type": "Cookie", "idleTimeout": idle, "drainTimeout": drain}


@pytest.fixture(scope="module")
def drained(place, release):
    """Three pods whose sessions are gone 15 s after their last request; they drain for two minutes."""
    host = f"{place}.stickyroute.test"
    route = manifests.route("web", host, ["web"], persistence=policy("120s", idle="15s"))
    kube.apply(
        place,
        manifests.code("code", "backend.py", "chat.py"),
        waiting(release.image, "web"),
        manifests.service("web"),
        route,
    )
    kube.rollout(place, "web")
    kube.wait_ready(place, "web")
    application = Application(release, place, host)
    kube.until("three endpoints", lambda: application.settled(3), 20)
    return application


async def delete(application, pod):
    await kube.off(kube.kubectl, "-n", application.namespace, "delete", "pod", pod, "--wait=false")


def exists(application, pod):
    """A pod that terminates does, until its containers have ended."""
    return pod in {one["metadata"]["name"] for one in kube.get("-n", application.namespace, "pods")["items"]}


def is_draining(application, pod):
    found = [one["state"] for one in application.status()["endpoints"] if one["pod"] == pod]
    return found == ["Draining"]


async def test_a_pod_ends_when_its_sessions_are_gone_and_not_before(drained):
    async with drained.crowd(60) as crowd:
        await crowd.each(3)
        [(pod, number)] = sessions(crowd.records).most_common(1)
        await delete(drained, pod)
        await kube.off(kube.until, "the pod drains", lambda: is_draining(drained, pod), 20)
        for _ in range(10):
            await crowd.each(1)
            await asyncio.sleep(1)
        assert failures(crowd.records) == []
        assert moves(crowd.records) == [], "bound sessions stay on a draining pod"
        assert await kube.off(exists, drained, pod), "it waits for its sessions"
        last = time.monotonic()
        await kube.off(kube.until, "the pod has ended", lambda: not exists(drained, pod), 90)
        took = time.monotonic() - last
        print(f"\n{number} sessions on {pod}: {summary(crowd.records)}; it ended {took:.0f} s after them")
        assert took > 10, "it waited until the idle timer was over"


@pytest.fixture(scope="module")
def short(drained):
    """Another route to the same pods, whose sessions stay for 20 s of a drain."""
    host = f"short-{drained.host}"
    kube.apply(drained.namespace, manifests.route("short", host, ["web"], persistence=policy("20s")))
    kube.wait_ready(drained.namespace, "short")
    return Application(drained.release, drained.namespace, host)


async def test_sessions_move_once_when_the_time_is_up(short):
    await kube.off(kube.until, "three endpoints", lambda: short.settled(3), 120)
    async with short.crowd(60) as crowd:
        await crowd.each(3)
        [(pod, number)] = sessions(crowd.records).most_common(1)
        await delete(short, pod)
        deleted = time.time()
        while time.time() < deleted + 30:
            await crowd.each(1)
            await asyncio.sleep(1)
        moved = moves(crowd.records)
        assert failures(crowd.records) == []
        assert {before for _, before, _, _ in moved} == {pod}
        assert len(moved) == number
        assert {notice for *_, notice in moved} == {"PodTerminated"}
        last = max(record.sent for record in crowd.records if record.pod == pod)
        assert 17 < last - deleted < 23, "until the deadline, and no longer"


async def test_a_websocket_stays_until_the_time_is_up_and_is_told(drained):
    namespace, host = drained.namespace, f"chat-{drained.host}"
    template = manifests.pod(
        drained.release.image, "code", script="chat.py", terminationGracePeriodSeconds=60
    )
    template["containers"][0]["ports"] = [{"name": "http", "containerPort": 8000}]
    template["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 8000}}
    kube.apply(
        namespace,
        manifests.deployment("chat", 2, template),
        manifests.service("chat"),
        manifests.route("chat", host, ["chat"], persistence=policy("15s")),
    )
    await kube.off(kube.rollout, namespace, "chat")
    await kube.off(kube.wait_ready, namespace, "chat")
    target = drained.release.target
    connector = aiohttp.TCPConnector(resolver=ToNode(target.address))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(f"http://{host}:{target.port}/chat") as socket,
    ):
        pod = (await socket.receive()).data
        await delete(drained, pod)
        deleted = time.monotonic()
        while time.monotonic() < deleted + 10:
            await socket.send_str("still there")
            assert (await socket.receive(timeout=5)).data == "still there"
            await asyncio.sleep(1)
        message = await socket.receive(timeout=20)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        assert 13 < time.monotonic() - deleted < 25
        async with session.ws_connect(f"http://{host}:{target.port}/chat") as again:
            assert (await again.receive()).data != pod
