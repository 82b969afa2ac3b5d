"""The supervisor's own small HTTP server, through which a pod's page stops and starts pods.

It listens on loopback and answers only under a path that holds a random secret.
"""

from aiohttp import web

from stickyroute_cli.demo.pods import NotPossibleError, Pod, Pods


class Control:
    """The server; `url` is what the pods are told."""

    def __init__(self, pods: Pods, secret: str) -> None:
        self._pods = pods
        self._path = f"/{secret}"
        app = web.Application()
        app.router.add_get(f"{self._path}/pods", self._list)
        app.router.add_post(f"{self._path}/pods/{{name}}/{{action:stop|start}}", self._act)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1)

    async def open(self) -> str:
        """Listen on a free loopback port; the URL."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}{self._path}"

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"pods": self._pods.view()})

    async def _act(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            pod: Pod = (
                self._pods.stop(name) if request.match_info["action"] == "stop" else self._pods.start(name)
            )
        except NotPossibleError as refusal:
            return web.json_response({"error": str(refusal)}, status=409)
        return web.json_response({"name": pod.name, "state": pod.state}, status=202)
