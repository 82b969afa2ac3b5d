"""Running the real `stickyroute` command as a process and reading what it says."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests import waiting

ROOT = Path(__file__).parents[3]
PARTS = tuple(str(ROOT / part) for part in ("api", "operator", "proxy", "cli"))
PATIENCE = 20.0


class Command:
    """A running command; what it has said so far is in `text`."""

    def __init__(self, process):
        self.process = process
        self.text = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self):
        while chunk := await self.process.stdout.read(65536):
            self.text += chunk.decode()

    async def says(self, words, after=0):
        """Wait until it has said the words; where they end."""
        async with asyncio.timeout(PATIENCE):
            while (at := self.text.find(words, after)) < 0:
                if self._reading.done():
                    pytest.fail(f"it ended without saying {words!r}:\n{self.text}")
                await asyncio.sleep(0.02)
        return at + len(words)

    async def ended(self):
        """Its exit status, once it has ended."""
        async with asyncio.timeout(PATIENCE):
            await self._reading
            return await self.process.wait()


@pytest.fixture
def command(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("temporary"))

    @asynccontextmanager
    async def run(*arguments):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stickyroute_cli",
            *map(str, arguments),
            env=os.environ
            | {"PYTHONPATH": ":".join((*PARTS, os.environ.get("PYTHONPATH", ""))), "TMPDIR": folder},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        running = Command(process)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await running.ended()
            assert "Traceback" not in running.text

    return run


@pytest.fixture
def free_port():
    return waiting.free_port()
