"""The load: sessions like browsers', spread over the proxies: `python -m tests.invariants.load LOG PLAN`.

Each keeps its cookie; some send bursts of parallel requests with one cookie; nothing is tried twice. Which
proxies there are comes as JSON lines on the input: {name: port}. Sessions share connections, as they do
behind another balancer, so that an answer that comes to the wrong request shows.
"""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections import defaultdict
from hashlib import blake2b
from pathlib import Path
from random import Random

import uvloop
from tests.invariants.logs import BUFFERED, Log

PATIENCE = 20.0
"""Seconds without an answer after which one is missing."""
IDLE = 2.0
"""Seconds that a connection waits for its next request: less than a proxy that ends still answers."""
BURST = 4
VISIT = 8
SHARES = {"shop": 40, "desk": 15, "lounge": 20, "rooms": 15, "quiet": 10}
"""Sessions by route, in percent."""


def digest(token):
    """What is logged of a token: enough to tell it again, of no use to anybody else."""
    return blake2b(token.encode(), digest_size=6).hexdigest() if token else ""


def route_of(number):
    """Which route the session of that number is on."""
    place = number * 37 % 100
    for route, share in SHARES.items():
        place -= share
        if place < 0:
            return route
    raise AssertionError


class Connection(asyncio.Protocol):
    """One at a time: a request, and its answer with a length."""

    def __init__(self):
        self.transport = self.waiter = None
        self.buffer = b""
        self.closed = False
        self.since = 0.0

    def ask(self, message):
        """A future of the answer: its head's lines, its fields, its content."""
        loop = asyncio.get_running_loop()
        self.waiter = waiter = loop.create_future()
        timer = loop.call_later(PATIENCE, self.connection_lost, TimeoutError("no answer"))
        waiter.add_done_callback(lambda _: timer.cancel())
        if self.closed:
            self.connection_lost(None)
        else:
            self.transport.write(message)
        return waiter

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        line, *fields = self.buffer[:end].decode("latin-1").split("\r\n")
        parts = (one.partition(":") for one in fields)
        lower = [(name.lower(), value.strip()) for name, _, value in parts]
        values = dict(lower)
        rest = self.buffer[end + 4 :]
        length = int(values["content-length"])
        if len(rest) < length:
            return
        waiter, self.waiter, self.buffer = self.waiter, None, b""
        if values.get("connection", "").lower() == "close":
            self.closed = True
            self.transport.close()
        if waiter is None or len(rest) > length:
            raise SystemExit(f"bytes that nobody asked for: {line} {rest!r}")
        if not waiter.done():
            waiter.set_result((int(line.split(" ")[1]), lower, rest))

    def connection_lost(self, error):
        self.closed = True
        self.transport.close()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error or EOFError("closed without an answer"))


class Proxies:
    """Where requests go, and the connections that are open there."""

    def __init__(self, host):
        self.host = host
        self.ports = {}
        self.names = ()
        self.idle = defaultdict(list)
        self.some = asyncio.Event()

    def take(self, ports):
        self.ports = ports
        self.names = sorted(ports)
        for name in self.idle.keys() - ports.keys():
            for connection in self.idle.pop(name):
                connection.transport.close()
        if ports:
            self.some.set()
        else:
            self.some.clear()

    async def connection(self, name):
        idle = self.idle[name]
        while idle:
            connection = idle.pop()
            if not connection.closed and time.monotonic() - connection.since < IDLE:
                return connection
            connection.transport.close()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.ports[name])
        return connection

    def put(self, name, connection):
        connection.since = time.monotonic()
        if name in self.ports:
            self.idle[name].append(connection)
        else:
            connection.transport.close()


class Session:
    """One client with its cookie."""

    def __init__(self, number, plan, proxies, log):
        self.number, self.proxies, self.log = number, proxies, log
        self.name = f"s{number}"
        self.route = route_of(number)
        self.random = Random(f"{plan['seed']}/{number}")
        self.token = ""
        self.turns = itertools.count()
        self.parallel = self.route != "quiet" and number % 5 == 0
        self.slow = plan["slow"]
        self.lazy = number % 7 == 3
        """Asks much at a time, and then long nothing: what happens meanwhile is news to it."""

    async def run(self, count, start, seconds):
        begin = self.random.random() * 0.3 * seconds
        each = BURST if self.parallel else 1
        together = VISIT if self.lazy else 1
        rounds = max(2, -(-count // (each * together)))
        for turn in range(rounds):
            due = begin + (seconds - begin) * (turn + self.random.random() * 0.9) / rounds
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            if turn == 0:
                # A browser asks for one page before it asks for many parts.
                await self.ask()
            for _ in range(together):
                if each == 1:
                    await self.ask()
                else:
                    await asyncio.gather(*(self.ask() for _ in range(each)))

    async def ask(self):
        await self.proxies.some.wait()
        random, turn = self.random, next(self.turns)
        proxy = random.choice(self.proxies.names)
        slow = random.randrange(1000) < self.slow
        post = random.randrange(4) == 0
        told = {
            "id": f"{self.name}-{turn}",
            "session": self.name,
            "route": self.route,
            "proxy": proxy,
            "method": "POST" if post else "GET",
            "token": digest(self.token),
        }
        query = f"room={self.number}&" if self.route == "rooms" else ""
        cookie = f"app={self.name}" + (f"; sid={self.token}" if self.token else "")
        body = b"x" * (self.number % 2 * 50 if post else 0)
        lines = [
            f"{told['method']} /?{query}{'slow=400' if slow else ''} HTTP/1.1",
            f"Host: {self.route}.test",
            f"X-Request-Id: {told['id']}",
            f"X-Private: private-{self.name}",
            f"Cookie: {cookie}",
        ]
        if post:
            lines.append(f"Content-Length: {len(body)}")
        message = "\r\n".join([*lines, "", ""]).encode() + body
        sent = time.time()
        try:
            found = await self.exchange(proxy, message, told)
        except (OSError, EOFError) as error:
            found = {"status": 0, "error": f"{type(error).__name__}: {error}"}
        self.log.write(**told, sent=sent, done=time.time(), **found)

    async def exchange(self, proxy, message, told):
        """What came of one request."""
        connection = await self.proxies.connection(proxy)
        status, fields, content = await connection.ask(message)
        self.proxies.put(proxy, connection)
        given = [value for name, value in fields if name == "set-cookie" and value.startswith("sid=")]
        found = {"status": status, "set": self.keep(given)}
        if status != 200:
            return found | {"error": content.decode("utf-8", "replace")[:200]}
        answer = json.loads(content)
        mine = (told["id"], self.name, f"private-{self.name}")
        if (answer["id"], answer["session"], answer["secret"]) != mine:
            found["wrong"] = f"the answer is that of {answer['id']} of session {answer['session']}"
        return found | {"pod": answer["pod"], "uid": answer["uid"], "instance": answer["instance"]}

    def keep(self, given):
        """Take the cookie that the answer sets; its digest, `-` for one that is cleared."""
        if not given:
            return ""
        value, _, attributes = given[-1].removeprefix("sid=").partition(";")
        self.token = "" if "max-age=0" in attributes.lower() else value
        return digest(self.token) or "-"


async def follow(proxies):
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        proxies.take(json.loads(line))
        print("taken", flush=True)


async def main(log, plan):
    proxies = Proxies(plan["host"])
    following = asyncio.create_task(follow(proxies))
    await proxies.some.wait()
    start = time.monotonic()
    await asyncio.gather(
        *(
            Session(number, plan, proxies, log).run(plan["requests"], start, plan["seconds"])
            for number in range(plan["sessions"])
        )
    )
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    print("ended", flush=True)


if __name__ == "__main__":
    with contextlib.closing(Log(Path(sys.argv[1]), BUFFERED)) as requests:
        uvloop.run(main(requests, json.loads(sys.argv[2])))
