"""The pods, all in one process: `python -m tests.invariants.farm LOG`, ordered by JSON lines on its input."""

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import uvloop
from tests.invariants.logs import BUFFERED, Log
from tests.invariants.pod import Pod


async def main(log):
    """Obey until the input ends; each order is answered when it is done."""
    pods = {}
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        order = json.loads(line)
        match order["do"]:
            case "start":
                pod = pods[order["uid"]] = Pod(log.write, order["pod"], order["uid"], order["instance"])
                await pod.start(order["address"], order["port"])
            case "stop":
                pods[order["uid"]].stop()
            case "crash":
                pods[order["uid"]].crash()
        print("done", flush=True)


if __name__ == "__main__":
    with contextlib.closing(Log(Path(sys.argv[1]), BUFFERED)) as requests:
        uvloop.run(main(requests))
