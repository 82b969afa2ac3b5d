"""Writes notes and reads them back: python client.py URL NOTE…"""

import asyncio
import sys

from mcp import Client


async def main(url, *notes):
    # "legacy" is the protocol with sessions; what a client tries first has none, and needs no stickiness.
    async with Client(url, mode="legacy") as client:
        for text in notes:
            result = await client.call_tool("note", {"text": text})
            print(result.content[0].text)
        print((await client.call_tool("read")).structured_content)


asyncio.run(main(*sys.argv[1:]))
