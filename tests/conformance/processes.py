"""Programs beside the tests: those that print their port and serve, and those that print JSON and end."""

import asyncio
import json
import re
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path

HERE = Path(__file__).parent


@asynccontextmanager
async def serving(*command, **options):
    """The port of a program that serves until the block ends."""
    process = await asyncio.create_subprocess_exec(*map(str, command), stdout=PIPE, **options)
    try:
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        reading = asyncio.create_task(process.stdout.read())  # or a talkative one would come to a stop
        yield int(re.findall(rb"\d+", line)[-1])
        reading.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def told(*command, given=None):
    """What a program prints, as JSON; `given` is written to it as JSON."""
    process = await asyncio.create_subprocess_exec(*map(str, command), stdin=PIPE, stdout=PIPE)
    try:
        out, _ = await process.communicate(json.dumps(given).encode())
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, command
    return json.loads(out)


def differences(direct, proxied):
    """Where two runs differ: {name: (direct, proxied)}."""
    names = sorted(direct.keys() | proxied.keys())
    return {
        name: (direct.get(name), proxied.get(name)) for name in names if direct.get(name) != proxied.get(name)
    }
