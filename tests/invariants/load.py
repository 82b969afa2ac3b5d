"""The load: sessions like browsers', spread over the proxies: `python -m tests.invariants.load LOG PLAN`.

Each keeps its key, as its route wants it; some send bursts of parallel requests with one key; nothing is
tried twice. Which proxies there are comes as JSON lines on the input: {name: port}. Sessions share
connections, as they do behind another balancer, so that an answer that comes to the wrong request shows.
"""

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path

import uvloop
from tests.invariants.chat import Chatter
from tests.invariants.client import Proxies
from tests.invariants.logs import BUFFERED, Log
from tests.invariants.routes import route_of
from tests.invariants.session import Session


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
    sessions = []
    for number in range(plan["sessions"]):
        kind = Chatter if route_of(number, plan["routes"]) == "chat" else Session
        sessions.append(kind(number, plan, proxies, log))
    await asyncio.gather(*(one.run(plan["requests"], start, plan["seconds"]) for one in sessions))
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    print("ended", flush=True)


if __name__ == "__main__":
    with contextlib.closing(Log(Path(sys.argv[1]), BUFFERED)) as requests:
        uvloop.run(main(requests, json.loads(sys.argv[2])))
