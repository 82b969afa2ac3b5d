"""The demo application as a process of its own, over real sockets."""

import asyncio
import io
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

ROOT = Path(__file__).parents[3]
PARTS = (str(ROOT / part) for part in ("api", "operator", "proxy", "cli"))
ENVIRONMENT = os.environ | {"PYTHONPATH": ":".join(PARTS)}


@asynccontextmanager
async def demo(**variables):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stickyroute_cli.demo",
        env=ENVIRONMENT | {"HOST": "127.0.0.1", "PORT": "0", "POD_NAME": "web-1"} | variables,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        yield process, f"http://127.0.0.1:{line.split()[-1]}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def body(answer):
    async with answer as found:
        return found.status, await found.json()


async def test_a_session_counts_in_this_pod_and_hears_the_notice():
    jar = aiohttp.CookieJar(unsafe=True)  # takes cookies for an address, too
    async with demo() as (_, url), aiohttp.ClientSession(cookie_jar=jar) as client:
        _, first = await body(client.get(f"{url}/whoami"))
        _, second = await body(client.get(f"{url}/whoami", headers={"X-Session-Lost": "PodTerminated"}))
        assert first == {"pod": "web-1", "session": first["session"], "count": 1, "notice": None}
        assert second == {**first, "count": 2, "notice": "PodTerminated"}
        _, state = await body(client.get(f"{url}/state"))
        assert state["you"]["count"] == 2
        assert state["pods"] == [{"name": "web-1", "state": "Running", "sessions": 1}]
        client.cookie_jar.clear()
        _, other = await body(client.get(f"{url}/whoami", headers={"Cookie": "demo_session=chosen"}))
        assert other["session"] not in ("chosen", first["session"])
        assert other["count"] == 1


async def test_the_page_holds_its_state_safely_and_needs_nothing_from_elsewhere():
    async with demo() as (_, url), aiohttp.ClientSession() as client:
        headers = {"X-Session-Lost": "</script><script>alert(1)</script>"}
        async with client.get(url, headers=headers) as answer:
            page = await answer.text()
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.cookies["demo_session"]["httponly"]
    state = page.partition('id="state">')[2].partition("</script>")[0]
    assert json.loads(state)["you"]["notice"] == headers["X-Session-Lost"]
    assert "alert(1)</script>" not in page
    assert 'src="http' not in page
    assert 'href="http' not in page


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_body_comes_back_and_its_id_is_counted(method):
    payload = os.urandom(1_000_000)
    async with demo(DEMO_LOG_ECHO="1") as (process, url), aiohttp.ClientSession() as client:
        for seen in ("1", "2"):
            sent = io.BytesIO(payload)
            headers = {"X-Request-Id": "run-7", "Content-Type": "application/x-test"}
            async with client.request(method, f"{url}/echo", data=sent, headers=headers) as answer:
                assert await answer.read() == payload
                assert answer.headers["X-Seen"] == seen
                assert answer.content_type == "application/x-test"
            assert await process.stdout.readline() == b"echo run-7\n"
        assert await body(client.get(f"{url}/seen?prefix=run-")) == (
            200,
            {"pod": "web-1", "seen": {"run-7": 2}},
        )


async def test_slow_answers_and_bad_seconds_are_told():
    async with demo() as (_, url), aiohttp.ClientSession() as client:
        assert await body(client.get(f"{url}/slow?seconds=0.05")) == (200, {"pod": "web-1", "seconds": 0.05})
        for seconds in ("x", "-1", "nan", "9999"):
            status, found = await body(client.get(f"{url}/slow?seconds={seconds}"))
            assert status == 400
            assert "0 to 300" in found["error"]


async def test_a_foreign_page_cannot_stop_pods():
    async with demo() as (_, url), aiohttp.ClientSession() as client:
        status, _ = await body(
            client.post(f"{url}/pods/web-1/stop", headers={"Origin": "http://evil.example"})
        )
        assert status == 403
        status, found = await body(client.post(f"{url}/pods/web-1/stop", headers={"Origin": url}))
        assert (status, found) == (409, {"error": "this page cannot stop web-1: use kubectl"})


async def test_neighbours_are_drawn():
    async with demo(POD_NAME="web-2") as (_, other):
        peers = "localhost:" + other.rpartition(":")[2]
        async with demo(DEMO_PEERS=peers) as (_, url), aiohttp.ClientSession() as client:
            _, state = await body(client.get(f"{url}/state"))
    assert [pod["name"] for pod in state["pods"]] == ["web-1", "web-2"]


async def test_after_sigterm_it_accepts_on_closes_connections_and_finishes_what_runs():
    async with demo(DEMO_ACCEPT_SECONDS="1") as (process, url), aiohttp.ClientSession() as client:
        async with client.ws_connect(f"{url}/ws") as ws:
            assert await ws.receive_str() == "web-1"
            await ws.send_str("hello")
            assert await ws.receive_str() == "hello"
            slow = asyncio.create_task(body(client.get(f"{url}/slow?seconds=1.5")))
            await body(client.get(f"{url}/healthz"))
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                while True:
                    async with client.get(f"{url}/healthz") as answer:
                        if answer.headers.get("Connection") == "close":
                            break
            assert (await ws.receive()).data == 1001
        assert await slow == (200, {"pod": "web-1", "seconds": 1.5})
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_it_ends_at_once_when_its_parent_does():
    async with (
        demo(DEMO_TIED="1", DEMO_ACCEPT_SECONDS="60") as (process, url),
        aiohttp.ClientSession() as client,
    ):
        slow = asyncio.create_task(body(client.get(f"{url}/slow?seconds=60")))
        await body(client.get(f"{url}/healthz"))
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 10) == 0
        with pytest.raises(aiohttp.ClientError):
            await slow


@pytest.mark.parametrize(
    ("variables", "words"),
    [({"PORT": "http"}, "PORT='http' cannot be used"), ({"HOST": "192.0.2.1"}, "192.0.2.1")],
)
async def test_what_cannot_be_had_is_told_without_a_traceback(variables, words):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stickyroute_cli.demo",
        env=ENVIRONMENT | variables,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert words in told.decode()
    assert "Traceback" not in told.decode()
