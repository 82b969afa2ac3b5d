"""Autobahn's WebSocket cases, by kosoku, with the proxy between the two sides and without: the same results.

Once kosoku is the client and `websockets` the server behind the proxy, once the other way round. Those of
compression (12, 13) are minutes of deflating that tell a tunnel nothing new: one of each shape does.
"""

import asyncio
import logging
from contextlib import asynccontextmanager, suppress

import pytest
from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver
from tests.component.wire.harness import Proxy, endpoint, fleet
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

CASES = [
    *(f"{part}.*" for part in (1, 2, 3, 4, 5, 6, 7, 9, 10)),
    *(f"{part}.{shape}.1" for part in (12, 13) for shape in range(1, 6)),
]
AT_ONCE = 8
LARGEST = 1 << 26

# kosoku leaves its test data's files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*kosoku.*:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def silent():
    """What is wrong with the peers' frames is what the cases are about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@asynccontextmanager
async def before(port):
    """A proxy before that port."""
    proxy = await Proxy().start(fleet(endpoint(port)))
    try:
        yield proxy.port
    finally:
        await proxy.plane.drain(0, 1)
    assert not proxy.plane.counters.tunnels
    assert not proxy.plane.counters.open_connections


def told(results):
    """What does not depend on timing; whether a case is strictly right or merely right does."""
    return {
        one.case_id: (one.passed or one.behavior.value, one.behavior_close.value, one.remote_close_code)
        for one in results
    }


async def as_client(port):
    """kosoku asks; there has to be an echo."""
    try:
        return told(await run_fuzzingclient(f"ws://127.0.0.1:{port}/", cases=CASES, concurrency=AT_ONCE))
    except FailureError as error:
        return told(error.results)


async def echo(websocket):
    with suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


async def as_server(through):
    """kosoku answers an echo that walks through its cases; `through` makes the port that the echo uses."""
    async with run_fuzzingserver(CASES, host="127.0.0.1", port=0) as server, through(server.port) as port:
        url = f"ws://127.0.0.1:{port}"
        async with connect(f"{url}/getCaseCount") as websocket:
            numbers = iter(range(1, int(await websocket.recv()) + 1))

        async def walk():
            for number in numbers:
                case = f"{url}/runCase?case={number}&agent=echo"
                with suppress(ConnectionClosed):
                    async with connect(case, max_size=LARGEST) as websocket:
                        await echo(websocket)

        await asyncio.gather(*(walk() for _ in range(AT_ONCE)))
        async with connect(f"{url}/updateReports?agent=echo"):
            pass
        try:
            return told(await asyncio.wait_for(server.get_result(), 60))
        except FailureError as error:
            return told(error.results)


@asynccontextmanager
async def directly(port):
    yield port


async def test_a_client_under_test_of_cases():
    async with serve(echo, "127.0.0.1", 0, max_size=LARGEST) as server:
        port = server.sockets[0].getsockname()[1]
        alone = await as_client(port)
        async with before(port) as proxied:
            assert await as_client(proxied) == alone
    assert len(alone) >= 300


async def test_a_server_of_cases():
    alone = await as_server(directly)
    assert await as_server(before) == alone
    assert len(alone) >= 300
