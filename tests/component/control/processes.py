"""A proxy as a process, pods for it to serve, and clients that look at it."""

import asyncio
import contextlib
import os
import re
import sys
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from tests.component.control.support import endpoint, snapshot
from tests.waiting import until

from stickyroute_operator.publish import ProxyAddress, Publisher

READY = re.compile(
    r"clients at (\S+):(\d+)(?: and by TLS at \S+:\d+)?, control at (\S+):(\d+), admin at (\S+):(\d+), "
    r"drain at (\S+):(\d+)"
)


@dataclass
class Proxy:
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    http: int = 0
    control: int = 0
    admin: int = 0
    drain: int = 0

    @property
    def log(self):
        return "\n".join(self.lines)

    @property
    def address(self):
        return ProxyAddress("127.0.0.1", self.control)


@contextlib.asynccontextmanager
async def start(*arguments, ready=True, **environment):
    """A proxy process on free ports; ends it if the test did not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stickyroute_proxy",
        *(
            "--http=127.0.0.1:0",
            "--https=127.0.0.1:0",
            "--control=127.0.0.1:0",
            "--admin=127.0.0.1:0",
            "--drain=127.0.0.1:0",
            "--name=proxy-0",
        ),
        *arguments,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    proxy = Proxy(process)

    async def read():
        async for line in process.stderr:
            proxy.lines.append(line.decode().rstrip())
            if found := READY.search(proxy.lines[-1]):
                proxy.http, proxy.control, proxy.admin, proxy.drain = (int(found[n]) for n in (2, 4, 6, 8))

    reading = asyncio.create_task(read())
    try:
        if ready:
            await until(lambda: proxy.admin or process.returncode is not None, 20)
            assert proxy.admin, proxy.log
        yield proxy
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


@contextlib.asynccontextmanager
async def pod(name, hold=None):
    """A backend that answers with its name and the request's id; `/slow` waits for `hold`."""

    async def answer(request):
        if request.path == "/slow" and hold is not None:
            await hold.wait()
        return web.Response(text=name, headers={"X-Seen-Id": request.headers["X-Request-Id"]})

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.port
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def publishing(authority, proxy, wanted):
    """A publisher that has brought the snapshot to the proxy."""
    context = authority.context()
    push = Publisher(authority.fleet, lambda: context, lambda: None)
    try:
        push.target({"proxy-0": proxy.address})
        push.publish(wanted)
        await until(lambda: push.proxies["proxy-0"].acked == wanted.version)
        yield push
    finally:
        await push.close()


def serving(ports, revision=1):
    """A snapshot whose one route leads to pods at these ports of this machine."""
    made = snapshot(revision)
    pods = tuple(
        endpoint(number).model_copy(update={"address": "127.0.0.1", "port": port})
        for number, port in enumerate(ports)
    )
    return made.model_copy(update={"endpoints": {"shop/web-0:8080": pods}})


async def get(session, port, path="/", **headers):
    async with session.get(
        f"http://127.0.0.1:{port}{path}", headers={"Host": "host-0.example.com", **headers}
    ) as answer:
        return answer.status, await answer.text(), answer.headers


async def readiness(session, proxy):
    async with session.get(f"http://127.0.0.1:{proxy.admin}/readyz") as answer:
        return answer.status, await answer.text()


async def is_ready(session, proxy):
    return (await readiness(session, proxy))[0] == 200


async def scrape(session, proxy):
    """The metrics' text, and a look-up of one sample's value."""
    async with session.get(f"http://127.0.0.1:{proxy.admin}/metrics") as answer:
        text = await answer.text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name, **labels):
        return next((one.value for one in samples if one.name == name and one.labels == labels), None)

    return text, value


async def is_busy(session, proxy):
    _, value = await scrape(session, proxy)
    return value("stickyroute_requests_in_flight", namespace="shop", service="web-0", pod="web-0-0") == 1


async def is_closed(session, proxy):
    try:
        await get(session, proxy.http)
    except aiohttp.ClientConnectorError:
        return True
    except aiohttp.ClientOSError:  # taken by the kernel, and reset when the port was closed: ask again
        return False
    return False


@contextlib.asynccontextmanager
async def browser():
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session
