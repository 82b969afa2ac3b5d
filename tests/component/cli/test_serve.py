"""`stickyroute serve` as a process: what it serves, what it says, and how it ends."""

import asyncio
import base64
import signal
import socket
import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest
import yaml
from aiohttp import web
from tests.certificates import secret

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
"""
ROUTE = """
apiVersion: stickyroute.dev/v1alpha1
kind: StickyRoute
metadata: {name: shop}
spec:
  rules: [{name: app, backends: [{service: web, port: http}]}]
  persistence: {type: Cookie}
---
"""


def slice_of(name, port):
    return f"""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], targetRef: {{kind: Pod, name: {name}, uid: uid-{name}}}}}]
---
"""


@asynccontextmanager
async def backend(name):
    async def answer(_):
        return web.Response(text=name)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def get(client, port, path="/"):
    async with client.get(f"http://localhost:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_it_serves_a_folder_follows_its_files_and_survives_bad_ones(command, free_port, tmp_path):
    route, pods = tmp_path / "route.yaml", tmp_path / "pods.yaml"
    async with backend("one") as one, backend("two") as two, aiohttp.ClientSession() as client:
        route.write_text(SERVICE + ROUTE + "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")
        pods.write_text(slice_of("web-1", one))
        async with command("serve", tmp_path, "--http", f"127.0.0.1:{free_port}") as serve:
            await serve.says(f"serving {tmp_path} on http://localhost:{free_port}/")
            await serve.says("ignored: Deployment default/web (route.yaml)")
            at = await serve.says("web-1  Serving   0 sessions")
            assert await get(client, free_port) == (200, "one")
            assert await get(client, free_port) == (200, "one")
            at = await serve.says("web-1  Serving   1 session\n", at)

            pods.write_text(slice_of("web-2", two))
            at = await serve.says("BindingsDropped  default/shop  1 session left web-1: PodTerminated", at)
            at = await serve.says("web-2  Serving", at)
            assert await get(client, free_port) == (200, "two")

            route.write_text("a: b: c")
            at = await serve.says(f"{tmp_path}/route.yaml:1: not YAML", at)
            at = await serve.says("its last good content stays", at)
            assert await get(client, free_port) == (200, "two")

            bad = ROUTE.replace("name: shop", "name: bad").replace("Cookie", "Cokie")
            route.write_text(SERVICE + ROUTE + bad)
            at = await serve.says("all files are good again", at)
            at = await serve.says("NotAccepted  default/bad  spec.persistence.type: must be one of", at)
            await serve.says("Accepted=False, Invalid: spec.persistence.type", at)
            assert await get(client, free_port) == (200, "two")

            serve.process.send_signal(signal.SIGTERM)
            assert await serve.ended() == 0


def sealed(found, name="shop-tls"):
    data = {"tls.crt": found.chain, "tls.key": found.key}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": found.type}
    return yaml.safe_dump(body | {"stringData": data})


def leaf(chain):
    end = "-----END CERTIFICATE-----\n"
    return ssl.PEM_cert_to_DER_cert(chain.partition(end)[0] + end)


async def shown(port):
    """The certificate that a client of localhost is shown, DER; None: it is refused."""
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=anything, server_hostname="localhost"
        )
    except (ssl.SSLError, ConnectionError):
        return None
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


async def test_https_by_a_secret_of_the_folder(command, unused_tcp_port_factory, tmp_path):
    http, https = unused_tcp_port_factory(), unused_tcp_port_factory()
    certificates = tmp_path / "certificates.yaml"
    route = ROUTE.replace("spec:\n", "spec:\n  hosts: [localhost]\n  tls: {secretName: shop-tls}\n")
    async with backend("one") as one, aiohttp.ClientSession() as client:
        (tmp_path / "all.yaml").write_text(SERVICE + route + slice_of("web-1", one))
        async with command("serve", tmp_path, "--http", http, "--https", https) as serve:
            at = await serve.says(f"on http://localhost:{http}/ and https://localhost:{https}/")
            at = await serve.says("InvalidCertificateRef  default/shop  spec.tls.secretName: Secret", at)
            assert await shown(https) is None
            for found in (secret("localhost"), secret("localhost")):
                certificates.write_text(sealed(found))
                async with asyncio.timeout(10):
                    while await shown(https) != leaf(found.chain):
                        await asyncio.sleep(0.05)
            async with client.get(f"https://localhost:{https}/", ssl=False) as answer:
                assert (answer.status, await answer.text()) == (200, "one")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        ("a: b: c", "is not YAML"),
        ("limits: {headBytes: 3}", "limits.headBytes: must be from 1Ki to 1Mi"),
        ("proxyProtocol: true", "list the load balancer's in trustedProxies"),
    ],
)
async def test_bad_settings_are_told(command, tmp_path, content, told):
    file = tmp_path / "settings.yaml"
    if content:
        file.write_text(content)
    async with command("serve", tmp_path, "--settings", file) as serve:
        await serve.says(f"{file}")
        await serve.says(told)
        assert await serve.ended() == 2


async def test_a_folder_that_goes_away_is_told_and_served_on(command, free_port, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    manifests = folder / "all.yaml"
    async with backend("one") as one, backend("two") as two, aiohttp.ClientSession() as client:
        manifests.write_text(SERVICE + ROUTE + slice_of("web-1", one))
        async with command("serve", folder, "--http", f"127.0.0.1:{free_port}") as serve:
            await serve.says("web-1  Serving")
            folder.rename(tmp_path / "elsewhere")
            await serve.says("there is no such folder")
            assert await get(client, free_port) == (200, "one")
            folder.mkdir()
            manifests.write_text(SERVICE + ROUTE + slice_of("web-2", two))
            await serve.says("web-2  Serving")
            assert await get(client, free_port) == (200, "two")


async def test_sessions_outlive_a_restart_where_keys_are_kept(command, free_port, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    async with backend("one") as one:
        (folder / "all.yaml").write_text(SERVICE + ROUTE + slice_of("web-1", one))
        cookies = []
        async with aiohttp.ClientSession() as client:
            for _ in range(2):
                arguments = (
                    "serve",
                    folder,
                    "--http",
                    f"127.0.0.1:{free_port}",
                    "--state",
                    tmp_path / "state",
                )
                async with command(*arguments) as serve:
                    await serve.says("web-1  Serving")
                    async with client.get(f"http://localhost:{free_port}/") as answer:
                        cookies.append(len(answer.cookies))
                    serve.process.send_signal(signal.SIGINT)
                    assert await serve.ended() == 0
    assert cookies == [1, 0]
    assert (tmp_path / "state/token-keys.json").stat().st_mode & 0o777 == 0o600


SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: tls}\ndata: {tls.key: 's3cr3t!'}\n"
BAD_SLICE = slice_of("web-1", "http")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: [", "a.yaml:1: not YAML"),
        (SECRET, "a.yaml:1: Secret default/tls: data.tls.key is not base64: encode it"),
        (BAD_SLICE, "a.yaml:2: EndpointSlice default/web-1: ports[0].port: must be a valid integer"),
        (
            SERVICE.replace("[{name: http, port: 80}]", "7"),
            "Service default/web: spec.ports: must be a valid list",
        ),
    ],
)
async def test_bad_files_at_the_start_are_told_with_line_and_remedy(command, tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    async with command("serve", tmp_path, "--http", "127.0.0.1:0") as serve:
        assert await serve.ended() == 2
        assert f"Error: {tmp_path}/" in serve.text
        assert words in serve.text
        assert "s3cr3t" not in serve.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "/nowhere"), "/nowhere: there is no such folder"),
        (("serve", __file__), "is a file; name the folder that it is in"),
        (("serve", "DIR", "--http", "here"), "'here' is not HOST:PORT, for example 127.0.0.1:8080"),
        (
            ("serve", "DIR", "--http", "192.0.2.1:80"),
            "choose an address of this machine with --http HOST:PORT",
        ),
        (("serve", "DIR", "--state", "/dev/null/x"), "name a folder that can be written with --state DIR"),
        (("demo", "--pods", "0"), "is not in the range 1<=x<=9"),
        (("sevre",), "No such command 'sevre'"),
    ],
)
async def test_bad_arguments_are_told(command, tmp_path, arguments, words):
    arguments = [tmp_path if argument == "DIR" else argument for argument in arguments]
    async with command(*arguments) as given:
        assert await given.ended() == 2
        assert words in given.text


async def test_kept_keys_that_cannot_be_used_are_told_without_showing_them(command, tmp_path):
    short = base64.b64encode(b"too short").decode()
    (tmp_path / "token-keys.json").write_text(f'{{"sealing": 1, "keys": {{"1": "{short}"}}}}')
    async with command("serve", tmp_path, "--state", tmp_path) as serve:
        assert await serve.ended() == 2
        assert "does not hold token keys of this version; delete it" in serve.text
        assert short not in serve.text


@pytest.mark.parametrize("name", ["serve", "demo"])
async def test_a_busy_port_is_told_with_another_one(command, tmp_path, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        folder = [tmp_path] if name == "serve" else []
        async with command(name, *folder, "--http", f"127.0.0.1:{port}") as given:
            assert await given.ended() == 2
            assert (
                f"port {port} on 127.0.0.1 is already in use; choose another with --http 127.0.0.1:{port + 1}"
                in given.text
            )


async def test_an_empty_folder_is_told_and_filled_later(command, free_port, tmp_path):
    async with command("serve", tmp_path, "--http", f"127.0.0.1:{free_port}") as serve:
        await serve.says(f"no StickyRoute in {tmp_path}")
        async with backend("one") as one, aiohttp.ClientSession() as client:
            assert (await get(client, free_port))[0] == 404
            (tmp_path / "all.yaml").write_text(SERVICE + ROUTE + slice_of("web-1", one))
            await serve.says("web-1  Serving")
            assert await get(client, free_port) == (200, "one")


async def test_metrics_and_health_are_read_where_asked(command, free_port, tmp_path):
    (tmp_path / "a.yaml").write_text(SERVICE + ROUTE)
    arguments = ("serve", tmp_path, "--http", "127.0.0.1:0", "--admin", f"127.0.0.1:{free_port}")
    async with command(*arguments) as serve, aiohttp.ClientSession() as client:
        await serve.says("default/shop  *")
        assert await get(client, free_port, "/readyz") == (200, "ok\n")
        assert "stickyroute_" in (await get(client, free_port, "/metrics"))[1]
        serve.process.send_signal(signal.SIGINT)
        assert await serve.ended() == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with command("serve", tmp_path, "--http", "127.0.0.1:0", "--admin", str(port)) as serve:
            assert await serve.ended() == 2
            assert f"port {port} on 127.0.0.1 is already in use; choose another with --admin" in serve.text


async def test_it_refuses_lenient_parsers(command, tmp_path, monkeypatch):
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    async with command("serve", tmp_path, "--http", "127.0.0.1:0") as serve:
        assert await serve.ended() == 2
        assert "Error: aiohttp runs without its C parser" in serve.text


async def test_a_missing_part_is_named(command, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['httptools'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with command("serve", tmp_path) as serve:
        assert await serve.ended() == 2
        assert "Error: httptools is not installed here: pip install 'stickyroute[cli]'" in serve.text


async def test_routes_of_another_class_are_named(command, tmp_path):
    (tmp_path / "a.yaml").write_text(ROUTE.replace("spec:", "spec:\n  className: other"))
    async with command("serve", tmp_path, "--http", "127.0.0.1:0") as serve:
        await serve.says("of another class than stickyroute, so not served here (see --class): default/shop")


async def test_help_reads_well(command):
    async with command("--help") as given:
        assert await given.ended() == 0
        assert "demo   Try StickyRoute here: three pods, one page, no cluster." in given.text
        assert "serve  Serve the StickyRoutes of a folder, without a cluster." in given.text
    async with command("--version") as given:
        assert await given.ended() == 0
        assert given.text.startswith("stickyroute ")
