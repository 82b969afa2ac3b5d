"""A chat on the terminal: python client.py URL NAME."""

import asyncio
import sys

import aiohttp
import socketio


async def main(url, visitor):
    # The session that keeps cookies: without one each request would be a new client to StickyRoute.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        chat = socketio.AsyncClient(http_session=http)

        @chat.event
        def welcome(told):
            print(f"[{told['pod']}] {len(told['lines'])} lines so far", told["lost"] or "")

        @chat.event
        def reply(told):
            print(f"[{told['pod']}] {told['text']}")

        await chat.connect(url, auth={"visitor": visitor})
        while line := await asyncio.to_thread(sys.stdin.readline):
            await chat.call("say", line.strip())
        await chat.disconnect()


asyncio.run(main(*sys.argv[1:]))
