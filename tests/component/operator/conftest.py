import contextlib

import pytest
from tests.component.control.support import serve
from tests.component.operator.api import fake_api
from tests.waiting import until

from stickyroute_operator import app, handlers, references, reporter, resync, rotation

RELEASE, NAMESPACE = "sr", "system"


@pytest.fixture
async def api():
    async with fake_api() as server:
        for name in ("ca", "operator-tls", "proxy-tls", "token-keys"):
            server.put("secrets", {"metadata": {"name": f"{RELEASE}-{name}", "namespace": NAMESPACE}})
        server.put("leases", {"metadata": {"name": f"{RELEASE}-operator", "namespace": NAMESPACE}})
        yield server


@pytest.fixture
async def connect(api, tmp_path, monkeypatch):
    """Makes a connection to the API, as the operator's main does."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    opened = []

    async def make():
        opened.append(await app.Cluster.connect())
        return opened[-1]

    yield make
    for cluster in opened:
        await cluster.close()


@pytest.fixture
def start(api, connect):
    """Starts an operator; the context ends it."""

    @contextlib.asynccontextmanager
    async def begin(**options):
        import asyncio

        chosen = app.Options(
            fleet="stickyroute",
            namespace=NAMESPACE,
            release=RELEASE,
            instance=options.pop("instance", "operator-0"),
            health=("127.0.0.1", 0),
            **options,
        )
        operator = app.Operator(chosen, await connect())
        task = asyncio.create_task(operator.run())
        operator.task = task
        try:
            yield operator
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
                await task

    return begin


@pytest.fixture
def proxies(api, tmp_path):
    """Runs proxies' control ports with the operator's certificates, and tells of them in slices."""

    @contextlib.asynccontextmanager
    async def run(*names, ready=True, **more):
        await until(lambda: "data" in api.get("secrets", f"{RELEASE}-proxy-tls", NAMESPACE))
        directory = tmp_path / "tls"
        directory.mkdir(exist_ok=True)
        import base64

        for field, value in api.get("secrets", f"{RELEASE}-proxy-tls", NAMESPACE)["data"].items():
            (directory / field).write_bytes(base64.b64decode(value))
        async with contextlib.AsyncExitStack() as stack:
            served = {
                name: await stack.enter_async_context(serve(directory, name=name, **more)) for name in names
            }
            for name, one in served.items():
                api.put(
                    "endpointslices",
                    {
                        "metadata": {
                            "name": name,
                            "namespace": NAMESPACE,
                            "labels": {"kubernetes.io/service-name": f"{RELEASE}-proxy-control"},
                        },
                        "addressType": "IPv4",
                        "ports": [{"name": "control", "port": one.address.port}],
                        "endpoints": [
                            {
                                "addresses": ["127.0.0.1"],
                                "conditions": {"ready": ready},
                                "targetRef": {"kind": "Pod", "name": name},
                            }
                        ],
                    },
                )
            yield served

    return run


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses that are seconds in a cluster are tenths here."""
    monkeypatch.setattr(resync, "RETRY", 0.1)
    monkeypatch.setattr(resync, "AFTER_OUTAGE", (0.1, 0.2))
    monkeypatch.setattr(reporter, "RETRY", (0.1, 0.4))
    monkeypatch.setattr(reporter, "FIRST_REPORTS", 0.3)
    monkeypatch.setattr(handlers, "PAUSE", 0.1)
    monkeypatch.setattr(references, "INTERVAL", 0.3)
    monkeypatch.setattr(references, "RETRY", 0.1)
    monkeypatch.setattr(rotation, "POLL", 0.1)
    monkeypatch.setattr(app, "FLEET_POLL", 0.1)
    monkeypatch.setattr(app, "API_RETRY", 0.1)
    monkeypatch.setattr(app, "SECRET_RETRY", 0.1)
