"""The pod that waits for the definition before the demo's route, with an API server that takes its time."""

import asyncio
import os
import ssl
import sys
from pathlib import Path

import trustme
from aiohttp import web

SCRIPT = Path(__file__).parents[3] / "deploy/helm/stickyroute/files/awaitcrd.py"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


async def test_it_waits_until_the_definition_is_served(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("account's")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    asked = []

    async def answer(request):
        assert request.headers["Authorization"] == "Bearer account's"
        asked.append(request.path)
        if len(asked) == 1:
            return web.Response(status=503)
        groups = [{"metadata": {"name": "apps"}}]
        if len(asked) > 3:
            groups.append({"metadata": {"name": "stickyroute.dev"}})
        if request.path == "/apis":
            return web.json_response({"kind": "APIGroupDiscoveryList", "items": groups})
        if len(asked) < 6:
            return web.Response(status=404)
        return web.json_response({"resources": [{"name": "stickyroutes"}]})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    _, port = runner.addresses[0]
    environment = os.environ | {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}
    text = SCRIPT.read_text().replace(ACCOUNT, str(tmp_path))
    assert str(tmp_path) in text
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, env=environment, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    await runner.cleanup()
    assert (process.returncode, said) == (0, b"stickyroute.dev/v1alpha1 is served\n")
    served = ["/apis", "/apis/stickyroute.dev/v1alpha1"]
    assert asked == ["/apis"] * 3 + served * 4
