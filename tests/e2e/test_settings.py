"""What chart values say of the fleet: workers, access log, PROXY protocol; and none of it costs a session."""

import asyncio
import json
import re

import aiohttp
import pytest
from tests.e2e import kube
from tests.e2e.load import ToNode, amnesia, failures, moves

VALUES = ("proxy.replicas=1", "proxy.workers=2", "proxy.settings.accessLog.mode=All")
KILL_WORKER = r"""
import os, re, signal
for number in filter(str.isdigit, os.listdir("/proc")):
    try:
        parent = re.search(r"PPid:\s+(\d+)", open(f"/proc/{number}/status").read())[1]
        command = open(f"/proc/{number}/cmdline").read()
    except OSError:
        continue
    if parent == "1" and "stickyroute" in command:
        os.kill(int(number), signal.SIGKILL)
        print("killed", number)
        break
"""
"""Ends one child of the supervisor, in the proxy's own pod."""


@pytest.fixture(scope="module")
def release(release):
    yield release
    release.helm("upgrade")
    for component in ("operator", "proxy"):
        kube.rollout(release.namespace, release.deployment(component), 180)


def upgrade(release, *values):
    release.helm("upgrade", *values)
    for component in ("operator", "proxy"):
        kube.rollout(release.namespace, release.deployment(component), 180)
        kube.until(f"{component} Ready", lambda component=component: release.ready(component), 60)


async def test_workers_are_one_proxy_and_each_request_is_logged(application, release):
    await kube.off(upgrade, release, *VALUES)
    (proxy,) = release.pods("proxy")
    # Each request is a connection of its own: the kernel gives them to either worker.
    async with application.crowd(40, fresh=True) as crowd:
        await crowd.each(5)
        assert moves(crowd.records) == []
        assert release.metrics(proxy)["stickyroute_workers"] == 2
        print(kube.kubectl("-n", release.namespace, "exec", proxy, "--", "python", "-c", KILL_WORKER))

        def mended():
            found = release.metrics(proxy)
            return found["stickyroute_worker_restarts_total"] >= 1 and found["stickyroute_workers"] == 2

        await kube.off(kube.until, "a new worker", mended, 20)
        await crowd.each(5)
        assert failures(crowd.records) == []
        assert moves(crowd.records) == []
        assert amnesia(crowd.records) == []

    connector = aiohttp.TCPConnector(resolver=ToNode(release.target.address))
    url = f"http://{application.host}:{release.target.port}/echo?secret=hidden"
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(url) as answer:
            got = await answer.json()
        token = next(cookie for cookie in session.cookie_jar if cookie.key.startswith("stickyroute-")).value
    sent = got["request"]["headers"]["x-request-id"]

    def logged():
        text = kube.kubectl("-n", release.namespace, "logs", proxy)
        lines = [json.loads(line) for line in text.splitlines() if sent in line]
        return (text, lines[0]) if lines else None

    text, line = kube.until("the line of the request", logged, 10)
    assert (line["requestId"], line["method"], line["status"]) == (sent, "GET", 200)
    assert got["pod"] in line["endpoint"]
    assert application.namespace in line["route"]
    assert token not in text
    assert "hidden" not in text


async def test_the_proxy_protocol_tells_the_client_and_needs_no_restart(application, release):
    before = set(release.pods("proxy"))
    more = "proxy.settings.proxyProtocol=true", "trustedProxies={0.0.0.0/0}"
    await kube.off(upgrade, release, *VALUES, *more)
    head = f"GET /echo HTTP/1.1\r\nHost: {application.host}\r\nConnection: close\r\n\r\n".encode()

    async def ask():
        target = release.target
        reader, writer = await asyncio.open_connection(target.address, target.port)
        writer.write(b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 80\r\n" + head)
        answer = await reader.read()
        writer.close()
        return answer

    async with asyncio.timeout(30):
        # The operator has restarted, and pushes; until then the header is a bad request.
        while b" 200 OK" not in (answer := await ask()):
            await asyncio.sleep(0.2)
    assert re.search(rb'"x-forwarded-for": "203\.0\.113\.7"', answer)
    assert set(release.pods("proxy")) == before
