"""A chat whose conversations live in the memory of one pod."""

import os
from collections import defaultdict

import socketio
import uvicorn

POD = os.environ.get("POD_NAME", "pod")

conversations: dict[str, list[str]] = defaultdict(list)
chat = socketio.AsyncServer(
    async_mode="asgi",
    always_connect=True,  # a visitor is connected before being greeted
    ping_interval=5,  # seconds; with the timeout, how soon both sides notice that the other is gone
    ping_timeout=5,
)


@chat.event
async def connect(sid, environ, auth):
    """Greets a visitor with what was said before; `lost` is why a visitor came over from another pod."""
    visitor = auth["visitor"]
    await chat.save_session(sid, {"visitor": visitor})
    lost = environ.get("HTTP_X_SESSION_LOST")
    await chat.emit("welcome", {"pod": POD, "lines": conversations[visitor], "lost": lost}, to=sid)


@chat.event
async def say(sid, text):
    """Keeps a line, answers it, and acknowledges with how many there are."""
    session = await chat.get_session(sid)
    lines = conversations[session["visitor"]]
    lines.append(text)
    await chat.emit("reply", {"pod": POD, "text": f"You said: {text}"}, to=sid)
    return len(lines)


app = socketio.ASGIApp(chat)

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8000")))
