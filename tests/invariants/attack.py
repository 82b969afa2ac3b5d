"""What the open network sends: half requests, garbage, forged tokens, clients that go away."""

import asyncio
import contextlib
from random import Random

CONNECTIONS = 100
"""Of each kind at a time."""
FORGED = 20
"""Requests with forged tokens on each connection of their kind."""


async def attack(port, host="127.0.0.1"):
    """All kinds at once; returns when every connection is closed at this end."""
    random = Random("attack")
    kinds = (_half_head, _garbage, _forged, _gone)
    await asyncio.gather(
        *(_try(kind, host, port, Random(random.random())) for kind in kinds for _ in range(CONNECTIONS))
    )


async def _try(kind, host, port, random):
    with contextlib.suppress(OSError, EOFError, TimeoutError):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            async with asyncio.timeout(10):
                await kind(reader, writer, random)
        finally:
            writer.close()


async def _half_head(reader, writer, _random):
    """Never comes to the head's end: closed by the proxy."""
    writer.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-Slow")
    await reader.read()


async def _garbage(reader, writer, random):
    writer.write(random.randbytes(300) + b"\r\n\r\n")
    await reader.read()


async def _forged(reader, writer, random):
    for _ in range(FORGED):
        token = "".join(random.choices("ABCDEFGHabcdefgh0123_-", k=104))
        writer.write(f"GET / HTTP/1.1\r\nHost: shop.test\r\nCookie: sid={token}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))


async def _gone(_reader, writer, _random):
    """Goes away in the middle of its body."""
    writer.write(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100000\r\n\r\nxxxx")
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.transport.abort()
