"""The demo application's answers.

It behaves as applications with logins and carts do: its session lives in this pod's memory, under a cookie of
its own, and is gone when a request reaches another pod. `X-Session-Lost` tells it so.
"""

import asyncio
import json
import re
import secrets
import time
from importlib import resources
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSMsgType, web

from stickyroute_cli.demo.config import Config
from stickyroute_cli.demo.memory import Memory, Session
from stickyroute_cli.demo.peers import Neighbours, Pods, Recent, Supervised

COOKIE: Final = "demo_session"
NOTICE: Final = "X-Session-Lost"
MAX_SLOW: Final = 300.0
CHUNK: Final = 65536

_TOKEN = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Demo:
    """One pod."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.memory = Memory(lambda: secrets.token_hex(8))
        self.ending = False
        """After SIGTERM: every answer also closes its connection."""
        self._sockets: set[web.WebSocketResponse] = set()
        self._page = resources.files("stickyroute_cli.demo").joinpath("page.html").read_text("utf-8")

    def app(self) -> web.Application:
        """The web application, ready for a runner."""
        app = web.Application(client_max_size=0)
        app.cleanup_ctx.append(self._connect)
        app.on_response_prepare.append(self._sign)
        app.on_shutdown.append(self._hang_up)
        app.router.add_get("/", self._show)
        app.router.add_get("/whoami", self._whoami)
        app.router.add_get("/state", self._state)
        app.router.add_post("/pods/{name}/{action:stop|start}", self._act)
        app.router.add_get("/healthz", self._health)
        app.router.add_route("POST", "/echo", self._echo)
        app.router.add_route("PUT", "/echo", self._echo)
        app.router.add_get("/seen", self._seen)
        app.router.add_get("/slow", self._slow)
        app.router.add_get("/ws", self._websocket)
        return app

    async def _connect(self, _: web.Application) -> Any:
        async with aiohttp.ClientSession() as client:
            self._pods: Pods = (
                Supervised(client, self.config.control)
                if self.config.control
                else Neighbours(client, self.config.peers, self._about)
            )
            self._recent = Recent(self._pods)
            yield

    async def _sign(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Pod"] = self.config.pod
        if self.ending and not isinstance(response, web.WebSocketResponse):
            response.force_close()
            response.headers["Connection"] = "close"

    async def _hang_up(self, _: web.Application) -> None:
        await asyncio.gather(
            *(ws.close(code=1001, message=b"the pod is stopping") for ws in set(self._sockets))
        )

    def _about(self) -> dict[str, Any]:
        return {"pod": self.config.pod, "sessions": self.memory.sessions}

    def _session(self, request: web.Request) -> tuple[Session, bool]:
        return self.memory.session(request.cookies.get(COOKIE))

    def _you(self, request: web.Request, session: Session) -> dict[str, Any]:
        return {
            "pod": self.config.pod,
            "session": session.id,
            "count": session.count,
            "notice": request.headers.get(NOTICE),
        }

    async def _show(self, request: web.Request) -> web.Response:
        session, new = self._session(request)
        session.count += 1
        state = await self._everything(request, session)
        # "<" would let a header's text end the script element.
        text = self._page.replace("{{state}}", json.dumps(state).replace("<", "\\u003c"))
        return _remember(web.Response(text=text, content_type="text/html"), session, new=new)

    async def _whoami(self, request: web.Request) -> web.Response:
        session, new = self._session(request)
        session.count += 1
        return _remember(_json(self._you(request, session)), session, new=new)

    async def _state(self, request: web.Request) -> web.Response:
        session, new = self._session(request)
        return _remember(_json(await self._everything(request, session)), session, new=new)

    async def _everything(self, request: web.Request, session: Session) -> dict[str, Any]:
        return {
            "you": self._you(request, session),
            "pods": await self._recent.all(time.monotonic()),
            "controllable": self._pods.controllable,
            "namespace": self.config.namespace,
        }

    async def _act(self, request: web.Request) -> web.Response:
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            return _json({"error": "only this page itself may stop and start pods"}, status=403)
        try:
            status, answer = await self._pods.act(request.match_info["name"], request.match_info["action"])
        except (aiohttp.ClientError, TimeoutError):
            return _json({"error": "the supervisor of the pods does not answer"}, status=502)
        self._recent.forget()
        return _json(answer, status=status)

    async def _health(self, _: web.Request) -> web.Response:
        return _json(self._about())

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        """The body as it came, streamed; `X-Seen` = how often this pod has seen the `X-Request-Id`."""
        response = web.StreamResponse()
        response.content_type = request.content_type
        if request.content_length is not None:
            response.content_length = request.content_length
        request_id = request.headers.get("X-Request-Id", "")
        if _TOKEN.fullmatch(request_id):
            response.headers["X-Seen"] = str(self.memory.see(request_id))
            if self.config.log_echo:
                print(f"echo {request_id}", flush=True)  # noqa: T201 - the log is its purpose
        await response.prepare(request)
        async for chunk in request.content.iter_chunked(CHUNK):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _seen(self, request: web.Request) -> web.Response:
        return _json({"pod": self.config.pod, "seen": self.memory.seen(request.query.get("prefix", ""))})

    async def _slow(self, request: web.Request) -> web.Response:
        try:
            seconds = float(request.query.get("seconds", "1"))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= MAX_SLOW:
            return _json({"error": f"seconds: give a number from 0 to {MAX_SLOW:g}"}, status=400)
        await asyncio.sleep(seconds)
        return _json({"pod": self.config.pod, "seconds": seconds})

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Sends its pod's name, then each message back."""
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self._sockets.add(ws)
        try:
            await ws.send_str(self.config.pod)
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await ws.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await ws.send_bytes(message.data)
        except ConnectionError:
            pass  # the client went while it was being answered
        finally:
            self._sockets.discard(ws)
        return ws


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})


def _remember(response: web.Response, session: Session, *, new: bool) -> web.Response:
    response.headers["Cache-Control"] = "no-store"
    if new:
        response.set_cookie(COOKIE, session.id, path="/", httponly=True, samesite="Lax")
    return response
