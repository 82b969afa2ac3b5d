"""The load client: many browsers, each with its own cookies and connection; every request recorded.

Nothing is retried here: what a browser would have seen as an error is an error.
"""

import asyncio
import collections
import hashlib
import socket
import time
import uuid
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractResolver


@dataclass(slots=True)
class Record:
    """One request and what came of it. Times are Unix seconds."""

    client: int
    id: str
    method: str
    sent: float
    done: float = 0.0
    status: int = 0
    error: str = ""
    pod: str = ""
    session: str = ""
    count: int = 0
    notice: str | None = None
    connection: str = ""
    leaked: list[str] = field(default_factory=list)

    @property
    def failed(self):
        return bool(self.error) or self.status != 200


class ToNode(AbstractResolver):
    """Every name is the node."""

    def __init__(self, address):
        self.address = address

    async def resolve(self, host, port=0, family=socket.AF_INET):
        return [
            {
                "hostname": host,
                "host": self.address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self):
        pass


class Browser:
    """One client: serial requests, cookies kept, the connection kept alive unless `fresh`; HTTPS by `tls`."""

    def __init__(self, number, target, host, *, fresh=False, tls=None):
        self.number = number
        self.url = f"https://{host}:{target.tls_port}" if tls else f"http://{host}:{target.port}"
        resolver = ToNode(target.address)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, force_close=fresh, ssl=tls or True),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        # aiohttp would repeat an idempotent request on a broken kept-alive connection, and hide the break
        self.session._retry_connection = False

    async def ask(self, method="GET", path="/", body=b""):
        record = Record(self.number, uuid.uuid4().hex, method, time.time())
        try:
            async with self.session.request(
                method, self.url + path, data=body or None, headers={"X-Load-Id": record.id}
            ) as answer:
                record.status = answer.status
                if answer.status == 200:
                    got = await answer.json()
                    for name in ("pod", "session", "count", "notice", "connection", "leaked"):
                        setattr(record, name, got[name])
                    if got["sha256"] != hashlib.sha256(body).hexdigest():
                        record.error = "the body came out different"
                else:
                    record.error = (await answer.text())[:200]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            record.error = f"{type(error).__name__}: {error}"
        record.done = time.time()
        return record

    async def close(self):
        await self.session.close()


class Crowd:
    """Browsers of one host, and all their records in the order of sending."""

    def __init__(self, target, host, clients, **options):
        self.browsers = [Browser(number, target, host, **options) for number in range(clients)]
        self.records = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(browser.close() for browser in self.browsers))

    async def each(self, times=1, parallel=20):
        """Every client asks so many times, a few clients at once; returns the new records."""
        gate = asyncio.Semaphore(parallel)

        async def turn(browser):
            async with gate:
                return [await browser.ask() for _ in range(times)]

        new = [record for records in await asyncio.gather(*map(turn, self.browsers)) for record in records]
        self.records += new
        return new

    async def load(self, rate, until):
        """`rate` requests a second over all clients, 30 % POST with bodies, until the event is set."""
        period = len(self.browsers) / rate
        start = time.monotonic()

        async def client(browser):
            due, turn = start + period * browser.number / len(self.browsers), 0
            while True:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if until.is_set():
                    return
                if (browser.number + turn) % 10 < 3:
                    size = (0, 10, 1000, 70_000)[turn % 4]
                    self.records.append(await browser.ask("POST", body=bytes(size) if size else b"x"))
                else:
                    self.records.append(await browser.ask())
                due, turn = max(due + period, time.monotonic() - 5), turn + 1

        await asyncio.gather(*map(client, self.browsers))
        self.records.sort(key=lambda record: record.sent)

    async def during(self, rate, work, at_least=0.0):
        """Load while the coroutine works, and for `at_least` seconds; returns the work's result."""
        until = asyncio.Event()
        start = time.monotonic()
        load = asyncio.create_task(self.load(rate, until))
        try:
            result = await work
            await asyncio.sleep(max(0.0, start + at_least - time.monotonic()))
        finally:
            until.set()
            await load
        return result


def failures(records):
    return [record for record in records if record.failed]


def moves(records):
    """(client, from, to, notice) for each change of pod, in the order of each client's requests."""
    found, at = [], {}
    for record in sorted((r for r in records if not r.failed), key=lambda r: r.sent):
        before = at.get(record.client)
        if before and before != record.pod:
            found.append((record.client, before, record.pod, record.notice))
        at[record.client] = record.pod
    return found


def amnesia(records):
    """Pairs whose session counter did not follow on, though the pod is the same: state lost unseen."""
    found, at = [], {}
    for record in sorted((r for r in records if not r.failed), key=lambda r: r.sent):
        before = at.get(record.client)
        if before and before.pod == record.pod and record.count != before.count + 1:
            found.append((before, record))
        at[record.client] = record
    return found


def sessions(records):
    """How many clients are on each pod, by their latest answer."""
    at = {record.client: record.pod for record in sorted(records, key=lambda r: r.sent) if not record.failed}
    return collections.Counter(at.values())


def summary(records):
    """One line for the test log, with the slowest request and when it was sent."""
    by_time = sorted(records, key=lambda record: record.done - record.sent)
    took = [record.done - record.sent for record in by_time]
    start = min(record.sent for record in records)
    span = max(record.done for record in records) - start
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    return (
        f"{len(records)} requests in {span:.0f} s ({len(records) / span:.0f}/s), "
        f"{len(failures(records))} failed, {len(moves(records))} moves, p50 {p50 * 1e3:.1f} ms, "
        f"p99 {p99 * 1e3:.1f} ms, max {took[-1] * 1e3:.0f} ms (at {by_time[-1].sent - start:.1f} s)"
    )
