"""A WebSocket server, aiohttp's, that sends every message back. Prints its port."""

import asyncio
import logging

import aiohttp
from aiohttp import WSMsgType, web
from isal import isal_zlib


async def echo(request):
    # 1 s: a client that does not end the closing handshake costs the run no more.
    socket = web.WebSocketResponse(max_msg_size=0, timeout=1)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def main():
    logging.disable()  # it tells of each bad frame: they are what the cases are made of
    aiohttp.set_zlib_backend(isal_zlib)  # the compressed cases are most of the run
    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
