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
from tests.invariants.logs import Log

PATIENCE = 20.0
"""Seconds without an answer after which one is missing."""
IDLE = 2.0
"""Seconds that a connection waits for its next request: less than a proxy that ends still answers."""
BURST = 4
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


class Proxies:
    """Where requests go, and the connections that are open there."""

    def __init__(self, host):
        self.host = host
        self.ports = {}
        self.idle = defaultdict(list)
        self.some = asyncio.Event()

    def take(self, ports):
        self.ports = ports
        for name in self.idle.keys() - ports.keys():
            for _, writer, _ in self.idle.pop(name):
                writer.close()
        if ports:
            self.some.set()
        else:
            self.some.clear()

    async def connection(self, name, port):
        while self.idle[name]:
            reader, writer, since = self.idle[name].pop()
            fresh = time.monotonic() - since < IDLE
            if fresh and not reader.at_eof() and not writer.transport.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self.host, port)

    def put(self, name, reader, writer):
        if name in self.ports:
            self.idle[name].append((reader, writer, time.monotonic()))
        else:
            writer.close()


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
        """Seldom asks: what happens meanwhile is news to it."""

    async def run(self, count, start, seconds):
        begin = self.random.random() * 0.3 * seconds
        each = BURST if self.parallel else 1
        rounds = max(2, count // each // (8 if self.lazy else 1))
        for turn in range(rounds):
            due = begin + (seconds - begin) * (turn + self.random.random() * 0.9) / rounds
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            # A browser asks for one page before it asks for many parts.
            if each == 1 or turn == 0:
                await self.ask()
            else:
                await asyncio.gather(*(self.ask() for _ in range(each)))

    async def ask(self):
        await self.proxies.some.wait()
        random, turn = self.random, next(self.turns)
        proxy, port = random.choice(sorted(self.proxies.ports.items()))
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
            async with asyncio.timeout(PATIENCE):
                found = await self.exchange(proxy, port, message, told)
        except (OSError, EOFError, TimeoutError) as error:
            found = {"status": 0, "error": f"{type(error).__name__}: {error}"}
        self.log.write(**told, sent=sent, done=time.time(), **found)

    async def exchange(self, proxy, port, message, told):
        """What came of one request."""
        reader, writer = await self.proxies.connection(proxy, port)
        kept = False
        try:
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head[:-4].split("\r\n")
            lower = [
                (name.lower(), value.strip()) for name, _, value in (one.partition(":") for one in fields)
            ]
            values = dict(lower)
            content = await reader.readexactly(int(values["content-length"]))
            kept = values.get("connection", "").lower() != "close"
        finally:
            if kept:
                self.proxies.put(proxy, reader, writer)
            else:
                writer.close()
        status = int(line.split(" ")[1])
        given = [value for name, value in lower if name == "set-cookie" and value.startswith("sid=")]
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
    uvloop.run(main(Log(Path(sys.argv[1])), json.loads(sys.argv[2])))
