"""The proxy as a process: starts, serves, ends gracefully, and comes back from its disk."""

import asyncio
import contextlib
import re
import signal
import stat
from pathlib import Path

import aiohttp
import pytest
from tests.component.control.processes import (
    browser,
    get,
    is_busy,
    is_closed,
    is_ready,
    pod,
    publishing,
    readiness,
    scrape,
    serving,
    start,
)
from tests.component.control.support import TOKEN_KEY, Authority, snapshot
from tests.waiting import until

from stickyroute_api.snapshot import Snapshot
from stickyroute_operator.report import Collector


async def test_it_serves_what_is_pushed_and_reports_it(authority, files):
    async with (
        pod("a") as a,
        pod("b") as b,
        start(f"--tls-dir={files}") as proxy,
        browser() as session,
    ):
        assert (await readiness(session, proxy))[0] == 503
        assert "no snapshot" in (await readiness(session, proxy))[1]
        assert (await get(session, proxy.http))[0] == 503
        async with publishing(authority, proxy, serving([a, b])):
            assert await readiness(session, proxy) == (200, "ok\n")
            pods = {"a": "web-0-0", "b": "web-0-1"}
            _, first, headers = await get(session, proxy.http)
            cookie = headers["Set-Cookie"].partition(";")[0]
            for _ in range(5):
                assert (await get(session, proxy.http, Cookie=cookie))[1] == first
            collector = Collector(authority.context, lambda: None, busy=0.05, quiet=0.05)
            collector.target({"proxy-0": proxy.address})
            await until(collector.view)
            view = collector.view()["shop/route-0/web"]
            assert (view.totals.new, view.active) == (1, 1)
            await collector.close()
        metrics, value = await scrape(session, proxy)
        scope = {"namespace": "shop", "route": "route-0", "scope": "web"}
        rule = {"namespace": "shop", "route": "route-0", "rule": "app"}
        assert value("stickyroute_decisions_total", **scope, reason="Bound") == 5
        assert value("stickyroute_sessions_new_total", **scope) == 1
        assert value("stickyroute_sessions", **scope, service="web-0", pod=pods[first]) == 1
        assert value("stickyroute_requests_total", **rule, code="2xx") == 6
        assert value("stickyroute_requests_total", namespace="", route="", rule="", code="5xx") == 1
        assert value("stickyroute_request_seconds_count", **rule) == 6
        assert value("stickyroute_snapshot_revision") == 1
        assert value("stickyroute_pushes_total") == 1
        assert TOKEN_KEY not in metrics + proxy.log
        assert cookie.partition("=")[2] not in metrics + proxy.log


def resident(pid):
    """MB, shared pages included."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


async def test_an_idle_proxy_is_small(authority, files):
    async with start(f"--tls-dir={files}") as proxy, publishing(authority, proxy, serving([1])):
        memory = resident(proxy.process.pid)
        print(f"an idle proxy has {memory:.1f} MB resident")
        assert memory < 50


async def test_killed_it_comes_back_with_its_snapshot_and_its_sessions(authority, files, tmp_path):
    state = tmp_path / "state"
    arguments = f"--tls-dir={files}", f"--state-dir={state}"
    async with pod("a") as a, pod("b") as b, browser() as session:
        async with start(*arguments) as proxy:
            async with publishing(authority, proxy, serving([a, b])):
                _, first, headers = await get(session, proxy.http)
                await until((state / "snapshot.json").exists)
            proxy.process.send_signal(signal.SIGKILL)
            await proxy.process.wait()
        kept = state / "snapshot.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert Snapshot.model_validate_json(kept.read_bytes()) == serving([a, b])
        cookie = headers["Set-Cookie"].partition(";")[0]
        async with start(*arguments) as proxy:
            assert "waiting up to 3 s" in (await readiness(session, proxy))[1]
            for _ in range(4):
                assert (await get(session, proxy.http, Cookie=cookie))[1] == first, "it serves already"
            await until(lambda: is_ready(session, proxy))
            assert "kept snapshot 1.1" in proxy.log
            assert TOKEN_KEY not in proxy.log


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{garbage", "is of no use (body: Invalid JSON"),
        (b'{"format": 2}', "format: this proxy speaks format 1 only"),
        (snapshot().model_copy(update={"fleet": "other"}).model_dump_json().encode(), "is of fleet 'other'"),
        (b"", "is of no use"),
    ],
)
async def test_a_useless_kept_snapshot_is_told_and_not_used(files, tmp_path, content, told):
    (tmp_path / "snapshot.json").write_bytes(content)
    async with start(f"--tls-dir={files}", f"--state-dir={tmp_path}") as proxy, browser() as session:
        assert told in proxy.log
        assert "waiting for the operator" in proxy.log
        assert (await readiness(session, proxy))[0] == 503


async def test_sigterm_lets_requests_finish(authority, files):
    hold = asyncio.Event()
    async with (
        pod("a", hold) as a,
        start(f"--tls-dir={files}", "--drain-delay=0.5", "--grace=10s") as proxy,
        browser() as session,
        publishing(authority, proxy, serving([a])),
    ):
        slow = asyncio.create_task(get(session, proxy.http, "/slow"))
        await until(lambda: is_busy(session, proxy))
        proxy.process.send_signal(signal.SIGTERM)
        await until(lambda: "stopping: unready now" in proxy.log)
        assert (await readiness(session, proxy))[1].startswith("draining")
        status, _, headers = await get(session, proxy.http)
        assert (status, headers["Connection"]) == (200, "close")
        await until(lambda: is_closed(session, proxy))
        hold.set()
        assert (await slow)[:2] == (200, "a")
        assert await asyncio.wait_for(proxy.process.wait(), 5) == 0
    assert "Traceback" not in proxy.log


async def test_a_second_signal_ends_at_once(files):
    async with start(f"--tls-dir={files}", "--drain-delay=60") as proxy:
        proxy.process.send_signal(signal.SIGINT)
        await until(lambda: "stopping" in proxy.log)
        proxy.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(proxy.process.wait(), 5) == 1
    assert "Traceback" not in proxy.log


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--http=nowhere"], {}, "argument --http: 'nowhere' is not HOST:PORT"),
        (["--grace=soon"], {}, "argument --grace: 'soon' is not a duration"),
        ([], {"STICKYROUTE_LOG_LEVEL": "loud"}, "'loud' is none of debug, info, warning, error"),
        (["--tls-dir=/nowhere", "--tls-wait=0"], {}, "tls.crt, tls.key, ca.crt did not appear in /nowhere"),
        ([], {"AIOHTTP_NO_EXTENSIONS": "1"}, "aiohttp runs without its C parser"),
    ],
)
async def test_it_refuses_to_start_with_a_message(arguments, environment, told):
    async with start(*arguments, ready=False, **environment) as proxy:
        assert await asyncio.wait_for(proxy.process.wait(), 20) == 2
    assert told in proxy.log
    assert "Traceback" not in proxy.log


async def test_a_busy_port_is_named(files):
    async with (
        start(f"--tls-dir={files}") as first,
        start(f"--tls-dir={files}", f"--http=127.0.0.1:{first.http}", ready=False) as second,
    ):
        assert await asyncio.wait_for(second.process.wait(), 20) == 2
    assert f"cannot listen at 127.0.0.1:{first.http} (Address already in use): set" in second.log
    assert "--http HOST:PORT" in second.log


async def test_without_certificates_a_kept_snapshot_serves_on(files, tmp_path):
    async with pod("a") as a:
        (tmp_path / "snapshot.json").write_text(serving([a]).model_dump_json())
        async with (
            start("--tls-dir=/nowhere", "--tls-wait=0", f"--state-dir={tmp_path}") as proxy,
            browser() as session,
        ):
            await until(lambda: "the control port is closed" in proxy.log)
            assert (await get(session, proxy.http))[:2] == (200, "a")


async def test_what_is_no_operator_leaves_no_trace_in_the_log(files):
    """Scanners and wrong clients end in the handshake."""
    async with start(f"--tls-dir={files}") as proxy:
        for greeting in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.control)
            writer.write(greeting)
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        stranger = Authority().context()
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"https://127.0.0.1:{proxy.control}/v1/version", ssl=stranger)
        proxy.process.send_signal(signal.SIGKILL)
    assert "Traceback" not in proxy.log
    assert proxy.log.count("\n") == 0, proxy.log
