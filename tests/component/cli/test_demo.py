"""`stickyroute demo` as a process: what a person does on the page, done over its API."""

import asyncio
import os
import re
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp


def client():
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar())


async def whoami(session, url):
    async with session.get(f"{url}/whoami") as answer:
        assert answer.status == 200
        return await answer.json()


async def state_of(session, url, pod):
    async with session.get(f"{url}/state") as answer:
        states = {found["name"]: found["state"] for found in (await answer.json())["pods"]}
    return states.get(pod)


async def becomes(session, url, pod, state):
    async with asyncio.timeout(20):
        while True:
            if await state_of(session, url, pod) == state:
                return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def demo(command, port):
    async with command("demo", "--http", f"127.0.0.1:{port}") as running:
        await running.says("3/3")
        yield running, f"http://localhost:{port}"


def addresses(text):
    return [("127.0.0.1", int(port)) for port in re.findall(r"runs on 127\.0\.0\.1:(\d+)", text)]


async def all_gone(places):
    async def gone(host, port):
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except ConnectionRefusedError:
                    return
                writer.close()
                await asyncio.sleep(0.05)

    await asyncio.gather(*(gone(*place) for place in places))


async def test_a_stopped_pods_session_moves_once_and_no_other_does(command, free_port):
    async with demo(command, free_port) as (running, url), client() as one, client() as other:
        before, stays = await whoami(one, url), await whoami(other, url)
        assert before["pod"] != stays["pod"]
        assert [(await whoami(one, url))["count"] for _ in range(3)] == [2, 3, 4]

        async with one.post(f"{url}/pods/{before['pod']}/stop") as answer:
            assert answer.status == 202
        await running.says(f"1 session left {before['pod']}: PodTerminated")
        moved = await whoami(one, url)
        assert moved["notice"] == "PodTerminated"
        assert moved["count"] == 1
        assert moved["pod"] != before["pod"]
        assert await whoami(one, url) == {**moved, "notice": None, "count": 2}
        assert await whoami(other, url) == {**stays, "count": 2}

        await becomes(one, url, before["pod"], "Stopped")
        async with one.post(f"{url}/pods/{before['pod']}/start") as answer:
            started = (await answer.json())["name"]
        assert started.rpartition("-")[0] == before["pod"].rpartition("-")[0]
        assert started != before["pod"]
        await becomes(one, url, started, "Running")
        assert (await whoami(one, url))["pod"] == moved["pod"]
        async with one.post(f"{url}/pods/{before['pod']}/stop") as answer:
            assert answer.status == 409
            assert started in (await answer.json())["error"]

        places = addresses(running.text)
        assert len(places) == 4
        running.process.send_signal(signal.SIGINT)
        assert await running.ended() == 0
        await all_gone(places)


async def test_a_pod_that_dies_by_itself_is_shown(command, free_port):
    async with demo(command, free_port) as (running, url), client() as one:
        pod = (await whoami(one, url))["pod"]
        os.kill(_process_of(running.process.pid, pod), signal.SIGKILL)
        await running.says(f"pod {pod} was ended by SIGKILL; start a new one from the page")
        await becomes(one, url, pod, "Failed")
        assert (await whoami(one, url))["pod"] != pod


async def test_pods_do_not_outlive_a_killed_parent(command, free_port):
    async with demo(command, free_port) as (running, _):
        places = addresses(running.text)
        running.process.kill()
        assert len(places) == 3
        await all_gone(places)


def _process_of(parent, pod):
    """The process id of the demo's child that is this pod."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_child = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and f"POD_NAME={pod}" in (entry / "environ").read_text().split("\0"):
                return int(entry.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    raise AssertionError(f"no process for {pod}")
