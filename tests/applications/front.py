"""What stands before a fleet in a cluster: each connection goes to the next proxy."""

import asyncio
import contextlib
from collections import Counter


class Front:
    """A TCP balancer on `port` of this machine."""

    def __init__(self, ports):
        self._ports = ports
        self._open = {}
        self.taken = Counter()
        """How many connections each proxy's port has got."""

    @property
    def url(self):
        return f"http://localhost:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._open.values())

    def cut(self):
        """Break all connections off, as a network does."""
        for writers in self._open:
            for writer in writers:
                writer.transport.abort()

    async def _serve(self, reader, writer):
        port = self._ports[self.taken.total() % len(self._ports)]
        self.taken[port] += 1
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        key = writer, back
        self._open[key] = asyncio.current_task()
        await asyncio.gather(_pipe(reader, back), _pipe(onward, writer))
        del self._open[key]


async def _pipe(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()
