"""The drain port: where a terminating pod asks whether its sessions are gone. Plain HTTP, for preStop."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from aiohttp import web

from stickyroute_api.duration import parse_duration
from stickyroute_api.leases import Drain, Leases
from stickyroute_api.snapshot import Snapshot
from stickyroute_proxy.affinity.drains import Answer, Pods, answer, pods

PATH: Final = "/v1/drain/{namespace}/{pod}"
LOOK: Final = 0.5
"""Seconds between two looks at what is left."""
MAX_WAITERS: Final = 256
"""How many answers are held at a time; who asks beyond is answered at once."""
MAX_WAIT: Final = 3600.0
"""The longest that an answer is held, in seconds."""
RETRY_AFTER: Final = "2"
"""Seconds after which to ask again."""


class Told(Protocol):
    """What the port needs of the receiver."""

    @property
    def snapshot(self) -> Snapshot | None: ...

    @property
    def leases(self) -> Leases | None: ...


class DrainPort:
    """The handler of the drain port. `left` tells what this proxy knows of draining pods."""

    def __init__(
        self,
        told: Told,
        left: Callable[[], Awaitable[Mapping[str, Drain]]],
        ending: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ending`: whether this proxy itself is about to end, so that it holds no answer any more."""
        self._told = told
        self._left = left
        self._ending = ending
        self._clock = clock
        self._waiters = 0
        self._pods: tuple[Snapshot | None, Pods] = (None, {})
        self._look: asyncio.Task[Mapping[str, Drain]] | None = None
        self._looked = 0.0

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get(PATH, self._get)])
        return app

    async def _get(self, request: web.Request) -> web.Response:
        try:
            wait = _seconds(request.query.get("wait", "0s"))
        except ValueError as error:
            return _json({"drained": False, "message": f"wait: {error}"}, 400)
        pod = f"{request.match_info['namespace']}/{request.match_info['pod']}"
        response, drained = await self._answer(pod)
        if drained or not wait or self._waiters >= MAX_WAITERS:
            return response
        until = asyncio.get_running_loop().time() + wait
        self._waiters += 1
        try:
            while not drained and not self._ending() and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(LOOK)
                response, drained = await self._answer(pod)
        finally:
            self._waiters -= 1
        return response

    async def _answer(self, name: str) -> tuple[web.Response, bool]:
        """The response for now, and whether it is worth no wait."""
        snapshot = self._told.snapshot
        if snapshot is None:
            return _json({"drained": False, "message": "this proxy holds no snapshot yet"}, 503), False
        if self._pods[0] is not snapshot:
            self._pods = snapshot, pods(snapshot)
        pod = self._pods[1].get(name)
        if pod is None:
            message = f"no route knows the pod {name}: nothing waits for it"
            return _json({"drained": True, "message": message}, 404), True
        leases = self._told.leases
        here = (await self._here()).get(name) if pod.draining else None
        found = answer(pod, leases.drains.get(name) if leases else None, here, self._clock())
        return _json(_content(found), 200 if found.drained else 503), found.drained

    async def _here(self) -> Mapping[str, Drain]:
        """One look serves all who ask within LOOK."""
        now = asyncio.get_running_loop().time()
        if self._look is None or self._looked + LOOK <= now:
            self._looked = now
            self._look = asyncio.ensure_future(self._left())
        return await asyncio.shield(self._look)


def _content(found: Answer) -> dict[str, object]:
    left = found.left
    return {
        "drained": found.drained,
        "sessions": left.sessions if left else None,
        "requests": left.requests if left else None,
        "tunnels": left.tunnels if left else None,
        "until": found.until,
        "message": found.why,
    }


def _json(content: Mapping[str, object], status: int) -> web.Response:
    response = web.json_response(content, status=status)
    if status == 503:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def _seconds(text: str) -> float:
    """Of `30` or a duration such as 30s. Raises ValueError."""
    seconds = float(text) if text.isascii() and text.isdigit() else parse_duration(text)
    return min(seconds, MAX_WAIT)
