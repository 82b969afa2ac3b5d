"""TLS for a client that knows none."""

import asyncio
from contextlib import asynccontextmanager, suppress

from tests.component.wire.securely import trusting


@asynccontextmanager
async def unwrapped(port, name):
    """A port for plain connections, each of which goes on by TLS to this one: a server of that name."""

    async def relay(reader, writer):
        far = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(), server_hostname=name)
        await asyncio.gather(_pass_on(reader, far[1]), _pass_on(far[0], writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _pass_on(reader, writer):
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
