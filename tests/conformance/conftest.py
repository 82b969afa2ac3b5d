"""What nobody here wrote, against the proxy and without it: both must come to the same."""

import os
import shlex
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from tests.component.wire.harness import Proxy, endpoint, fleet
from tests.conformance.page import Page

from stickyroute_api.snapshot import Persistence


def pytest_asyncio_loop_factories(config, item):
    """The data path is tested on the event loop that it runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_addoption(parser):
    parser.addoption("--write", type=Path, metavar="FILE", help="write the results, docs/conformance.md")


@pytest.fixture(scope="session")
def page(request):
    """Where the tests count what they see."""
    page = Page()
    file = request.config.getoption("write")
    if file is None:
        yield page
        return
    package = request.getfixturevalue("package")
    yield page
    command = shlex.join(["python", "-m", "pytest", *map(str, request.config.invocation_params.args)])
    session = request.session
    file.write_text(page.document(command, session.testscollected, session.testsfailed, package))


@pytest.fixture(scope="session")
def package():
    """Where npm installed http-cache-tests."""
    found = Path(os.environ["CONFORMANCE_NODE_MODULES"]).resolve() / "http-cache-tests"
    assert found.is_dir(), f"{found} is missing: run `make conformance`"
    return found


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
