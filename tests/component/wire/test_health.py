"""Health checks on real sockets: who gets sessions, and who keeps them."""

import asyncio
import gc
import re
import socket
from errno import EADDRNOTAVAIL, EMFILE

import pytest
from tests.component.wire.harness import COOKIE, echo, eventually, get, serving
from tests.component.wire.test_streams import SWITCH, UPGRADE

from stickyroute_api.snapshot import ActiveCheck, HealthCheck, PassiveCheck
from stickyroute_proxy.health import probe

CHECK = ActiveCheck(path="/healthz?deep=1", interval=0.25, timeout=0.2, healthy=1, unhealthy=2)


class Pod:
    """A backend that says who it is, and how it is."""

    def __init__(self, name, health=200, status=200):
        self.name, self.health, self.status = name, health, status
        self.checks = []

    async def script(self, peer):
        while True:
            try:
                head, _ = await peer.request()
            except asyncio.IncompleteReadError:
                return
            if head.startswith(b"GET /healthz"):
                self.checks.append(head)
                if self.health is None:
                    await asyncio.sleep(1)
                await peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (self.health or 200))
            elif self.status is None:
                return
            else:
                head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (self.status, len(self.name))
                await peer.send(head + self.name.encode())


async def ask(proxy, cookie=b""):
    """One request: its answer's body, and the cookie to return."""
    lines = (f"Cookie: {COOKIE}={cookie.decode()}",) if cookie else ()
    answer = await proxy.ask(get("/", *lines, "Connection: close"))
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.search(rb"(?im)^set-cookie: %b=([^;]+)" % COOKIE.encode(), head)
    return body, found[1] if found else cookie


def unhealthy(proxy):
    return [one.pod for one in proxy.plane.table.endpoints() if one.unhealthy]


async def test_a_pod_that_fails_its_checks_loses_its_sessions_until_it_is_well():
    pods = [Pod("a"), Pod("b"), Pod("c")]
    async with serving(*(pod.script for pod in pods), health=HealthCheck(active=CHECK)) as (proxy, *_):
        name, cookie = await ask(proxy)
        pod = next(one for one in pods if one.name == name.decode())
        pod.health = 500
        await eventually(lambda: unhealthy(proxy) == [pod.name])
        moved, fresh = await ask(proxy, cookie)
        assert moved != name
        assert fresh != cookie
        assert {(await ask(proxy))[0] for _ in range(4)} == {
            one.name.encode() for one in pods if one is not pod
        }
        pod.health = 200
        await eventually(lambda: not unhealthy(proxy))
        assert {(await ask(proxy))[0] for _ in range(6)} == {b"a", b"b", b"c"}
        # Its session has a new home, which it keeps.
        assert (await ask(proxy, fresh))[0] == moved
    check = pod.checks[0]
    assert check.startswith(b"GET /healthz?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize("health", [None, 500, 404, 199])
async def test_what_is_no_good_answer(health):
    pods = [Pod("a"), Pod("b", health), Pod("c")]
    async with serving(*(pod.script for pod in pods), health=HealthCheck(active=CHECK)) as (proxy, *_):
        await eventually(lambda: unhealthy(proxy) == ["b"])


async def test_checks_that_fail_everywhere_are_not_believed():
    pods = [Pod("a", 500), Pod("b", 500)]
    async with serving(*(pod.script for pod in pods), health=HealthCheck(active=CHECK)) as (proxy, *_):
        await eventually(lambda: proxy.plane.health.bad >= 6)
        assert unhealthy(proxy) == []
        assert (await ask(proxy))[0] in (b"a", b"b")


async def test_a_pod_that_fails_clients_takes_no_new_sessions_for_a_while_and_keeps_its_own():
    pods = [Pod("a"), Pod("b")]
    passive = PassiveCheck(consecutive_failures=3, eject_for=0.5)
    async with serving(*(pod.script for pod in pods), health=HealthCheck(passive=passive)) as (proxy, *_):
        name, cookie = await ask(proxy)
        pod = next(one for one in pods if one.name == name.decode())
        pod.status = 503
        for _ in range(3):
            assert (await ask(proxy, cookie))[0] == name
        assert proxy.plane.health.ejections == 1
        pod.status = 200
        assert (await ask(proxy, cookie))[0] == name
        assert name not in {(await ask(proxy))[0] for _ in range(4)}
        await eventually(lambda: not any(one.ejected_until for one in proxy.plane.table.ejected))
        assert name in {(await ask(proxy))[0] for _ in range(4)}


async def test_broken_answers_eject_too_and_a_good_one_begins_anew():
    pods = [Pod("a"), Pod("b")]
    passive = PassiveCheck(consecutive_failures=2, eject_for=30)
    async with serving(*(pod.script for pod in pods), health=HealthCheck(passive=passive)) as (proxy, *_):
        name, cookie = await ask(proxy)
        pod = next(one for one in pods if one.name == name.decode())
        for status in (None, 200, None):
            pod.status = status
            await ask(proxy, cookie)
        assert proxy.plane.health.ejections == 0
        await ask(proxy, cookie)
        assert proxy.plane.health.ejections == 1


async def test_an_upgrade_is_a_good_answer_too():
    status = 503

    async def script(peer):
        while True:
            await peer.request()
            if status == 101:
                await peer.send(SWITCH)
                await peer.read()
                return
            await peer.send(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")

    passive = PassiveCheck(consecutive_failures=2, eject_for=30, max_ejected_percent=100)
    async with serving(script, health=HealthCheck(passive=passive)) as (proxy, _):
        for status in (503, 101, 503):
            raw = await proxy.connect()
            await raw.send(get("/", *UPGRADE))
            assert (await raw.head()).startswith(b"HTTP/1.1 %d " % status)
            await raw.close()
        assert proxy.plane.health.ejections == 0


async def test_without_checks_nobody_asks():
    pod = Pod("a")
    async with serving(pod.script, echo()) as (proxy, *_):
        await asyncio.sleep(0.6)
        assert proxy.plane.health.judges == {}
    assert pod.checks == []


async def test_without_its_checks_a_pod_is_well_and_with_them_again_it_is_checked():
    pods = [Pod("a"), Pod("b", 500), Pod("c")]
    health = HealthCheck(active=CHECK, passive=PassiveCheck(consecutive_failures=1, max_ejected_percent=100))
    async with serving(*(pod.script for pod in pods), health=health) as (proxy, *_):
        plane = proxy.plane
        checked = plane.table.snapshot
        unchecked = checked.model_copy(update={"health": {}})
        await eventually(lambda: unhealthy(proxy) == ["b"])
        pods[0].status = 503
        for _ in range(3):
            await ask(proxy)
        assert plane.table.ejected
        proxy.apply(unchecked)
        assert unhealthy(proxy) == []
        assert not plane.table.ejected
        for pod in pods[:2]:
            pod.status, pod.health = 200, 200
        assert {(await ask(proxy))[0] for _ in range(6)} == {b"a", b"b", b"c"}
        # At once, and again when what was due has gone.
        for pause in (0.0, 0.5):
            await asyncio.sleep(pause)
            proxy.apply(checked)
            pods[1].health = 500
            await eventually(lambda: unhealthy(proxy) == ["b"])
            proxy.apply(unchecked)
            asked = len(pods[0].checks)
            assert unhealthy(proxy) == []
        await asyncio.sleep(1.0)
        assert len(pods[0].checks) <= asked + 1
        assert unhealthy(proxy) == []


def no_files(*_):
    raise OSError(EMFILE, "Too many open files")


class NoPorts(socket.socket):
    def connect(self, _):
        raise OSError(EADDRNOTAVAIL, "Cannot assign requested address")


@pytest.mark.parametrize("full", [no_files, NoPorts])
async def test_that_this_process_can_open_no_more_says_nothing_of_the_pods(monkeypatch, caplog, full):
    pods = [Pod("a"), Pod("b")]
    health = HealthCheck(active=CHECK, panic_percent=0)
    async with serving(*(pod.script for pod in pods), health=health) as (proxy, *_):
        watch = proxy.plane.health
        await eventually(lambda: watch.good >= 2)
        monkeypatch.setattr(probe, "socket", full)
        known = watch.good + watch.bad
        await asyncio.sleep(0.8)
        gc.collect()
        assert watch.good + watch.bad <= known + 2
        assert unhealthy(proxy) == []
        monkeypatch.undo()
        known = watch.good
        await eventually(lambda: watch.good > known)
    assert "never retrieved" not in caplog.text
