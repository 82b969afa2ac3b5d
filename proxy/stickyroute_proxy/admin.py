"""The admin port: metrics for Prometheus, health and readiness for the kubelet. Plain HTTP."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from stickyroute_proxy.exposition import Exposition
from stickyroute_proxy.metrics import Samples
from stickyroute_proxy.receive import Receiver

PATIENCE = 3.0
"""Seconds that a proxy with a kept snapshot waits for a newer one before it is ready."""


@dataclass(slots=True)
class Readiness:
    """Whether this proxy should get new connections.

    A kept snapshot may be old: pods may have gone since. So a proxy that restarts gives the operator a moment
    to push before it serves from disk; with the operator away it serves all the same.
    """

    receiver: Receiver
    started: float
    """On the monotonic clock."""
    draining: bool = False
    lacking: Callable[[], str] = str
    """What keeps it from serving at all; empty when nothing does."""

    def why_not(self, now: float) -> str:
        """Empty when ready."""
        if self.draining:
            return "draining: this proxy was told to stop"
        if lacking := self.lacking():
            return lacking
        if self.receiver.snapshot is None:
            return (
                "no snapshot: the operator has pushed none, and none is kept on disk; see the operator's log"
            )
        if not self.receiver.pushes and now < self.started + PATIENCE:
            return f"waiting up to {PATIENCE:g} s for the operator before serving the kept snapshot"
        return ""


def application(
    readiness: Readiness,
    samples: Callable[[], Awaitable[Samples]],
    clock: Callable[[], float],
    stuck: Callable[[], str] = str,
) -> web.Application:
    """The admin app; `clock` is the monotonic one of `readiness`, `stuck` says which loop hangs, if any."""

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        content = encode(Exposition(await samples()))
        return web.Response(body=content, headers={"Content-Type": content_type})

    async def healthz(_request: web.Request) -> web.Response:
        hangs = stuck()  # that this loop runs is what the answer proves
        return web.Response(text=f"{hangs or 'ok'}\n", status=503 if hangs else 200)

    async def readyz(_request: web.Request) -> web.Response:
        why = readiness.why_not(clock())
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app
