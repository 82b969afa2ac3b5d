"""`stickyroute serve` with learned keys in a real Valkey, and without one."""

import asyncio
import re

import aiohttp
from aiohttp import web
from tests.component.cli.test_serve import SERVICE, slice_of
from tests.component.wire.valkeys import valkey
from valkey.asyncio import Valkey

ROUTE = """
apiVersion: stickyroute.dev/v1alpha1
kind: StickyRoute
metadata: {name: shop}
spec:
  rules: [{name: app, backends: [{service: web, port: http}]}]
  persistence: {type: AppCookie, sessionName: ID, learn: {from: ResponseCookie, mode: Store}}
---
"""


async def mint(_):
    response = web.Response(text="ok")
    response.set_cookie("ID", "abc")
    return response


async def test_sessions_outlive_a_restart_in_the_store(
    command, unused_tcp_port_factory, tmp_path, monkeypatch
):
    monkeypatch.setenv("STICKYROUTE_STORE_PASSWORD", "hunter2")
    app = web.Application()
    app.router.add_get("/", mint)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "all.yaml").write_text(SERVICE + ROUTE + slice_of("web-1", runner.addresses[0][1]))
    http, admin = (f"127.0.0.1:{unused_tcp_port_factory()}" for _ in range(2))
    settings = tmp_path / "settings.json"
    options = ("--http", http, "--admin", admin, "--state", tmp_path / "state", "--settings", settings)
    async with (
        valkey(requirepass="hunter2") as server,
        Valkey(port=server.port, password="hunter2") as store,
        aiohttp.ClientSession() as client,
    ):
        settings.write_text(f'{{"store": {{"address": "127.0.0.1:{server.port}"}}}}')
        async with command("serve", folder, *options) as serve:
            await serve.says("web-1  Serving")
            async with client.get(f"http://{http}/") as answer:
                assert answer.cookies["ID"].value == "abc"
            async with asyncio.timeout(10):
                while await store.dbsize() < 2:
                    await asyncio.sleep(0.02)
            assert "hunter2" not in serve.text
            assert "is away" not in serve.text
        async with command("serve", folder, *options) as serve:
            await serve.says("web-1  Serving")
            async with asyncio.timeout(10):
                while "stickyroute_store_reachable 1" not in await read(client, f"http://{admin}/metrics"):
                    await asyncio.sleep(0.02)
            await read(client, f"http://{http}/", headers={"Cookie": "ID=abc"})
            metrics = await read(client, f"http://{admin}/metrics")
            assert 'stickyroute_store_lookups_total{result="hit"} 1' in metrics
    await runner.cleanup()


async def read(client, url, **options):
    async with client.get(url, **options) as answer:
        return await answer.text()


async def test_a_route_that_needs_a_store_is_told_the_remedy(command, free_port, tmp_path):
    (tmp_path / "all.yaml").write_text(SERVICE + ROUTE)
    async with command("serve", tmp_path, "--http", f"127.0.0.1:{free_port}") as serve:
        await serve.says("in the settings file")
        assert re.search(r"spec\.persistence\.learn\.mode: Store needs a Valkey server", serve.text)
