"""What nobody here wrote, against the proxy and without it: both must come to the same."""

import shutil
from contextlib import asynccontextmanager

import pytest
import uvloop
from tests.component.wire.harness import Proxy, endpoint, fleet

from stickyroute_api.snapshot import Persistence


def pytest_asyncio_loop_factories(config, item):
    """The data path is tested on the event loop that it runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def proxied():
    """`async with proxied(port) as port`: the proxy before the server on that port."""

    @asynccontextmanager
    async def before(port, persistence=None, **options):
        given = fleet(endpoint(port), persistence=persistence or Persistence(type="None"), **options)
        proxy = await Proxy().start(given)
        try:
            yield proxy.port
        finally:
            await proxy.plane.drain(0, 1)

    return before


@pytest.fixture
def node():
    found = shutil.which("node")
    assert found, "node is not on PATH: install Node.js 18.11 or newer"
    return found
