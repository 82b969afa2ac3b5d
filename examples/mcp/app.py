"""An MCP server that keeps a notebook for each session in the memory of one pod."""

import logging
import os
from collections import defaultdict

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

POD = os.environ.get("POD_NAME", "pod")

notebooks: dict[str, list[str]] = defaultdict(list)
server = MCPServer("notebook")


@server.tool()
async def note(text: str, ctx: Context) -> str:
    """Writes a note into this session's notebook."""
    notes = notebooks[ctx.headers["mcp-session-id"]]
    notes.append(text)
    await ctx.session.send_resource_list_changed()  # goes by the session's own event stream
    return f"{POD} keeps {len(notes)}"


@server.tool()
async def read(ctx: Context) -> list[str]:
    """Reads this session's notebook out, note by note."""
    notes = notebooks[ctx.headers["mcp-session-id"]]
    for number, text in enumerate(notes, 1):
        await ctx.report_progress(number, len(notes), text)  # goes by the answer's event stream
    return notes


mcp = server.streamable_http_app(host="0.0.0.0")


async def app(scope, receive, send):
    """The server, and a word on the log when StickyRoute tells that a session lost its pod."""
    lost = dict(scope.get("headers", ())).get(b"x-session-lost")
    if lost:
        logging.getLogger("uvicorn.error").warning("a session came from another pod: %s", lost.decode())
    await mcp(scope, receive, send)


if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8000")))
