"""A chat of one in a pod: each WebSocket gets the pod's name, then its own words. Serves on after SIGTERM.

Run in the product's image from a ConfigMap, which has aiohttp.
"""

import asyncio
import os

from aiohttp import web

POD = os.environ["POD_NAME"]


async def talk(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(POD)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


async def healthz(_request):
    return web.Response(text="ok")


async def main():
    app = web.Application()
    app.add_routes([web.get("/chat", talk), web.get("/healthz", healthz)])
    # No signal ends it before Kubernetes does.
    runner = web.AppRunner(app, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", int(os.environ["PORT"])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(main())
