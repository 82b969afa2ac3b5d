"""The pod of `helm test`, with proxies that come late, never, or do not keep a session."""

import asyncio
import os
import sys
from itertools import cycle
from pathlib import Path

import pytest
from aiohttp import web
from tests.waiting import free_port

SCRIPT = Path(__file__).parents[3] / "deploy/helm/stickyroute/files/selftest.py"


@pytest.fixture
def port():
    return free_port()


async def run(port, host, patience):
    """Its exit status, what it said, and the error text."""
    environment = os.environ | {"URL": f"http://127.0.0.1:{port}", "HOST": host, "PATIENCE": str(patience)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        SCRIPT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, error = await process.communicate()
    return process.returncode, said.decode(), error.decode()


class Proxies:
    """Served at a port once asked to; the first answers have the statuses given."""

    def __init__(self, statuses=(), pods=("a",)):
        self.statuses, self.pods = iter(statuses), cycle(pods)
        self.cookies = []

    async def answer(self, request):
        if status := next(self.statuses, None):
            return web.Response(status=status)
        self.cookies.append(request.headers["Cookie"])
        answer = web.json_response({"pod": next(self.pods)})
        answer.set_cookie("sr", f"token-{len(self.cookies)}")
        return answer

    async def serve(self, port):
        app = web.Application()
        app.router.add_get("/whoami", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner


@pytest.mark.parametrize(
    ("host", "statuses", "said"),
    [
        ("demo.test", [404, 503], "50 requests of one session reached a\n"),
        ("", [503, 404], "the proxies answer (404: no demo is installed to ask for more)\n"),
    ],
)
async def test_it_waits_for_what_was_just_installed(port, host, statuses, said):
    proxies = Proxies(statuses)
    testing = asyncio.ensure_future(run(port, host, 30))
    await asyncio.sleep(0.7)  # its first request is refused: no node knows the Service yet
    runner = await proxies.serve(port)
    assert await testing == (0, said, "")
    await runner.cleanup()
    if host:
        assert proxies.cookies[:3] == ["", "", "sr=token-2"]


@pytest.mark.parametrize("host", ["demo.test", ""])
async def test_proxies_that_never_come_are_told_without_a_traceback(port, host):
    status, said, error = await run(port, host, 0)
    assert (status, said) == (1, "")
    assert error.startswith(f"the proxies at http://127.0.0.1:{port} do not answer: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "statuses", "error"),
    [
        ("demo.test", [404] * 9, "demo.test answers 404\n"),
        ("demo.test", [200, 502], "demo.test answers 502\n"),
        ("", [500] * 9, "the proxies answer 500\n"),
    ],
)
async def test_a_status_that_stays_is_told(port, host, statuses, error):
    runner = await Proxies(statuses).serve(port)
    assert await run(port, host, 0) == (1, "", error)
    await runner.cleanup()


async def test_a_session_that_does_not_stay_is_told(port):
    runner = await Proxies(pods=["a", "b"]).serve(port)
    assert await run(port, "demo.test", 0) == (1, "", "one session reached 2 pods: a, b\n")
    await runner.cleanup()
