"""Several workers are one proxy: to clients, to the operator, to who scrapes it, and when one dies."""

import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path

import aiohttp
import pytest
from tests.component.control.processes import (
    browser,
    get,
    is_closed,
    is_ready,
    pod,
    publishing,
    readiness,
    scrape,
    serving,
    start,
)
from tests.component.control.support import client, with_pods
from tests.waiting import until

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.control import AFFINITY_PATH, LEASES_PATH, SNAPSHOT_PATH, VERSION_PATH
from stickyroute_api.leases import Lease, Leases
from stickyroute_api.snapshot import Delta
from stickyroute_operator.ledger import Ledger, merge

SCOPE = {"namespace": "shop", "route": "route-0", "scope": "web"}
RULE = {"namespace": "shop", "route": "route-0", "rule": "app"}


@contextlib.asynccontextmanager
async def start_two(files, *arguments):
    async with start(f"--tls-dir={files}", "--workers=2", *arguments) as proxy:
        yield proxy


def workers(proxy):
    """The process of each worker, by its number."""
    return {
        int(number): int(pid) for number, pid in re.findall(r"worker (\d) serves: process (\d+)", proxy.log)
    }


def has_ended(pid):
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def listeners(proxy):
    """How many sockets listen where clients connect."""
    port = f":{proxy.http:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(row[1].endswith(port) and row[3] == "0A" for row in rows)


def who(headers):
    """The worker that passed a request on: the ids that it gives begin alike."""
    return headers["X-Seen-Id"][:16]


async def ask(proxy, path="/", **headers):
    """One request on a connection of its own: the status, the pod and the worker."""
    async with browser() as session:
        status, text, answered = await get(session, proxy.http, path, **headers)
        return status, text, who(answered) if status == 200 else None


async def ask_both(proxy, **headers):
    """Ask until two workers have answered; the answers."""
    answers = []
    while len({worker for _, _, worker in answers}) < 2:
        assert len(answers) < 200, "the kernel spreads connections over workers"
        answers.append(await ask(proxy, **headers))
    return answers


@contextlib.asynccontextmanager
async def operator(authority, proxy):
    """Requests to the control port: method, path, body → status and JSON."""
    async with client(authority.context()) as session:

        async def request(method, path, body=None):
            url = proxy.address.url(path)
            data = None if body is None else body.model_dump_json().encode()
            async with session.request(method, url, data=data) as answer:
                return answer.status, await answer.json()

        yield request


async def test_a_push_is_answered_when_all_workers_serve_it(authority, files):
    async with (
        pod("a") as a,
        pod("b") as b,
        start_two(files) as proxy,
        operator(authority, proxy) as request,
    ):
        assert len(workers(proxy)) == 2
        first, second = serving([a]), serving([b], revision=2)
        assert (await request("PUT", SNAPSHOT_PATH, first))[0] == 200
        assert {answer[:2] for answer in await ask_both(proxy)} == {(200, "a")}
        status, held = await request("PATCH", SNAPSHOT_PATH, Delta.between(first, second))
        assert (status, held["revision"]) == (200, 2)
        assert {answer[:2] for answer in await ask_both(proxy)} == {(200, "b")}
        third = second.model_copy(update={"epoch": 2, "endpoints": first.endpoints})
        assert (await request("PUT", SNAPSHOT_PATH, third))[0] == 200
        assert {answer[:2] for answer in await ask_both(proxy)} == {(200, "a")}


async def test_what_cannot_be_served_changes_no_worker(authority, files):
    async with pod("a") as a, start_two(files) as proxy, operator(authority, proxy) as request:
        good = serving([a])
        await request("PUT", SNAPSHOT_PATH, good)
        route = good.routes["shop/route-0"]
        (rule,) = route.rules
        cookieless = rule.model_copy(
            update={"persistence": rule.persistence.model_copy(update={"cookie": None})}
        )
        broken = with_pods(good, 0).model_copy(
            update={"routes": {"shop/route-0": route.model_copy(update={"rules": (cookieless,)})}}
        )
        for method, body in (("PATCH", Delta.between(good, broken)), ("PUT", broken)):
            status, refusal = await request(method, SNAPSHOT_PATH, body)
            assert (status, refusal["revision"]) == (422, 1)
            assert "route shop/route-0, rule app: persistence.cookie: missing" in refusal["error"]
        assert {answer[:2] for answer in await ask_both(proxy)} == {(200, "a")}
        assert (await request("GET", VERSION_PATH))[1]["revision"] == 1
        after = with_pods(good, 0).model_copy(update={"endpoints": serving([a, a]).endpoints})
        assert (await request("PATCH", SNAPSHOT_PATH, Delta.between(good, after)))[0] == 200


async def test_a_killed_worker_is_replaced_and_the_others_clients_notice_nothing(authority, files):
    stop = asyncio.Event()

    async def use(proxy, met, failures):
        """A client on one connection as long as that lives; which workers it meets, and what fails."""
        url = f"http://127.0.0.1:{proxy.http}/"
        async with browser() as session:
            while not stop.is_set():
                try:
                    # a POST: aiohttp sends others again by itself
                    async with session.post(url, headers={"Host": "host-0.example.com"}) as answer:
                        status, headers = answer.status, answer.headers
                except aiohttp.ClientError:
                    failures.append((met[-1], "cut"))
                    continue
                if status != 200:
                    failures.append((met[-1], status))
                    continue
                if not met or met[-1] != who(headers):
                    met.append(who(headers))

    async with (
        pod("a") as a,
        start_two(files) as proxy,
        publishing(authority, proxy, serving([a])),
        browser() as session,
    ):
        await ask_both(proxy)
        met, failures = [[] for _ in range(12)], []
        clients = [asyncio.create_task(use(proxy, each, failures)) for each in met]
        await until(lambda: all(met))
        victim = workers(proxy)[1]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: workers(proxy)[1] != victim, 20)
        assert await is_ready(session, proxy)
        stop.set()
        await asyncio.gather(*clients)
        dead = {worker for worker, _ in failures}
        assert len(dead) <= 1, "only one worker died"
        assert {failure for _, failure in failures} <= {"cut"}
        assert len(failures) == sum(len(each) > 1 for each in met), "each of its clients was cut once"
        answers = await ask_both(proxy)
        assert {answer[:2] for answer in answers} == {(200, "a")}
        assert not dead & {worker for _, _, worker in answers}
        assert "worker 1 ended (signal 9)" in proxy.log


async def test_where_successors_die_young_connections_go_to_the_others(authority, files):
    async with pod("a") as a, start_two(files) as proxy, publishing(authority, proxy, serving([a])):
        assert listeners(proxy) == 2
        for pause in ("0.5", "1", "2"):
            victim = workers(proxy)[1]
            os.kill(victim, signal.SIGKILL)
            await until(lambda pause=pause: f"replaced in {pause} s" in proxy.log)
            assert listeners(proxy) == (2 if pause == "0.5" else 1)
            assert (await ask(proxy))[:2] == (200, "a")
            await until(lambda victim=victim: workers(proxy)[1] != victim, 20)
        assert listeners(proxy) == 2
        assert {answer[:2] for answer in await ask_both(proxy)} == {(200, "a")}


async def test_metrics_are_those_of_all_workers_and_never_go_back(authority, files):
    async with (
        pod("a") as a,
        start_two(files) as proxy,
        publishing(authority, proxy, serving([a])),
        browser() as session,
    ):
        sent = len(await ask_both(proxy))
        _, value = await scrape(session, proxy)
        assert value("stickyroute_requests_total", **RULE, code="2xx") == sent
        assert value("stickyroute_request_seconds_count", **RULE) == sent
        assert value("stickyroute_request_seconds_bucket", **RULE, le="+Inf") == sent
        assert value("stickyroute_sessions_new_total", **SCOPE) == sent
        assert value("stickyroute_snapshot_revision") == 1
        assert value("stickyroute_workers") == 2
        assert value("stickyroute_worker_restarts_total") == 0
        cpu = value("process_cpu_seconds_total")

        victim = workers(proxy)[0]
        os.kill(victim, signal.SIGSTOP)
        _, value = await scrape(session, proxy)
        assert value("stickyroute_requests_total", **RULE, code="2xx") == sent, "one that hangs is remembered"
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while workers(proxy)[0] == victim:
            assert time.monotonic() < deadline
            _, value = await scrape(session, proxy)
            assert value("stickyroute_requests_total", **RULE, code="2xx") == sent
            assert value("process_cpu_seconds_total") >= cpu
        sent += len(await ask_both(proxy))
        _, value = await scrape(session, proxy)
        assert value("stickyroute_requests_total", **RULE, code="2xx") == sent
        assert value("stickyroute_worker_restarts_total") == 1


async def test_a_session_that_several_workers_serve_counts_once(authority, files):
    async with (
        pod("a") as a,
        pod("b") as b,
        start_two(files) as proxy,
        operator(authority, proxy) as request,
        browser() as session,
    ):
        assert (await request("GET", AFFINITY_PATH))[0] == 404
        await request("PUT", SNAPSHOT_PATH, serving([a, b]))
        _, where, headers = await get(session, proxy.http)
        cookie = headers["Set-Cookie"].partition(";")[0]
        answers = await ask_both(proxy, Cookie=cookie)
        assert {pod for _, pod, _ in answers} == {where}, "each worker opens the other's token"

        async def view():
            status, report = await request("GET", AFFINITY_PATH)
            assert status == 200
            return merge(Ledger().add(AffinityReport.model_validate(report)))["shop/route-0/web"]

        told = await view()
        assert (told.totals.new, told.active) == (1, 1)
        assert [endpoint.active for endpoint in told.endpoints] == [1]
        victim = workers(proxy)[0]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: workers(proxy)[0] != victim, 20)
        told = await view()
        assert (told.totals.new, told.active) == (1, 1), "what the dead one counted still counts"


async def test_all_workers_drain(authority, files):
    hold = asyncio.Event()
    async with (
        pod("a", hold) as a,
        start_two(files, "--drain-delay=0.5", "--grace=10s") as proxy,
        browser() as session,
        publishing(authority, proxy, serving([a])),
    ):
        slow = [asyncio.create_task(ask(proxy, "/slow")) for _ in range(16)]

        async def all_wait():
            _, value = await scrape(session, proxy)
            return value("stickyroute_exchanges") == 16

        await until(all_wait)
        proxy.process.send_signal(signal.SIGTERM)
        await until(lambda: "stopping: unready now" in proxy.log)
        assert (await readiness(session, proxy))[1].startswith("draining")
        await until(lambda: is_closed(session, proxy))
        hold.set()
        answers = await asyncio.gather(*slow)
        assert {answer[:2] for answer in answers} == {(200, "a")}
        assert len({worker for _, _, worker in answers}) == 2
        assert await asyncio.wait_for(proxy.process.wait(), 5) == 0
    assert all(has_ended(pid) for pid in workers(proxy).values())
    assert "Traceback" not in proxy.log


async def test_a_second_signal_ends_all_workers_at_once(files):
    async with start_two(files, "--drain-delay=60") as proxy:
        proxy.process.send_signal(signal.SIGTERM)
        await until(lambda: "stopping" in proxy.log)
        proxy.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(proxy.process.wait(), 5) == 1
    assert all(has_ended(pid) for pid in workers(proxy).values())
    assert "Traceback" not in proxy.log


async def test_without_their_supervisor_workers_end_gracefully(authority, files):
    hold = asyncio.Event()
    async with (
        pod("a", hold) as a,
        start_two(files, "--drain-delay=0", "--grace=10s") as proxy,
        browser() as session,
    ):
        async with publishing(authority, proxy, serving([a])):
            slow = asyncio.create_task(ask(proxy, "/slow"))

            async def waits():
                _, value = await scrape(session, proxy)
                return value("stickyroute_exchanges") == 1

            await until(waits)
        proxy.process.kill()
        await until(lambda: "the supervisor has gone" in proxy.log)
        hold.set()
        assert (await slow)[:2] == (200, "a")
        await until(lambda: all(has_ended(pid) for pid in workers(proxy).values()))
    assert "Traceback" not in proxy.log


async def test_a_kept_snapshot_is_served_by_all_workers(files, tmp_path):
    async with pod("a") as a:
        (tmp_path / "snapshot.json").write_text(serving([a]).model_dump_json())
        async with start_two(files, f"--state-dir={tmp_path}") as proxy:
            assert {answer[:2] for answer in await ask_both(proxy)} == {(200, "a")}


async def test_a_busy_port_is_named(files):
    async with (
        start(f"--tls-dir={files}") as first,
        start(f"--tls-dir={files}", "--workers=2", f"--http=127.0.0.1:{first.http}", ready=False) as second,
    ):
        assert await asyncio.wait_for(second.process.wait(), 20) == 2
    assert f"cannot listen at 127.0.0.1:{first.http} (Address already in use): set" in second.log
    assert "Traceback" not in second.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_workers_leave_signals_to_their_supervisor(files, number):
    """A terminal's Ctrl-C, or an init that ends a whole group, tells each of them."""
    async with start_two(files, "--drain-delay=0") as proxy:
        for pid in workers(proxy).values():
            os.kill(pid, number)
        proxy.process.send_signal(number)
        assert await asyncio.wait_for(proxy.process.wait(), 10) == 0
    assert "ended" not in proxy.log


async def test_each_worker_goes_by_its_part_of_the_leases(authority, files):
    async with pod("a") as a, start_two(files) as proxy, operator(authority, proxy) as request:
        assert (await request("PUT", SNAPSHOT_PATH, serving([a])))[0] == 200
        leases = Leases(
            fleet="stickyroute", epoch=1, sequence=2, scopes={"shop/route-0/web": {"x": Lease(placed=5)}}
        )
        assert (await request("PUT", LEASES_PATH, leases))[0] == 200
        status, refusal = await request("PUT", LEASES_PATH, leases.model_copy(update={"sequence": 1}))
        assert (status, refusal["error"]) == (409, "leases 1.1 are older than 1.2")
        os.kill(workers(proxy)[1], signal.SIGKILL)
        await until(lambda: proxy.log.count("worker 1 serves") == 2, 20)
        assert {answer[:2] for answer in await ask_both(proxy)} == {(200, "a")}
