"""What an operator learns from proxies when it begins, from real control ports."""

import asyncio
import socket

import pytest
from tests.component.control.support import FLEET, serve, snapshot, with_pods

from stickyroute_operator.publish import ProxyAddress
from stickyroute_operator.recall import recall

SOON = 1.0
"""Seconds: enough for those that answer."""


async def test_the_newest_snapshot_counts(authority, files):
    old, new = snapshot(7, epoch=1, pods=3), with_pods(snapshot(1, epoch=2), 2)
    async with serve(files, name="a") as one, serve(files, name="b") as other, serve(files, name="c") as none:
        await one.receiver.restore(new)
        await other.receiver.restore(old)
        proxies = {"a": one.address, "b": other.address, "c": none.address}
        assert await recall(FLEET, proxies, authority.context()) == new.endpoints


async def test_proxies_that_do_not_answer_are_passed_over(authority, files, caplog):
    caplog.set_level("INFO")
    old, new = snapshot(1), with_pods(snapshot(1), 2)

    async def breaks(request):
        if request.path.endswith("snapshot"):
            request.transport.abort()

    with socket.create_server(("127.0.0.1", 0)) as frozen:
        async with serve(files, name="a", before=breaks) as newest, serve(files, name="b") as good:
            await newest.receiver.restore(new)
            await good.receiver.restore(old)
            proxies = {
                "frozen": ProxyAddress("127.0.0.1", frozen.getsockname()[1]),
                "dead": ProxyAddress("127.0.0.1", 1),
                "a": newest.address,
                "b": good.address,
            }
            found = await recall(FLEET, proxies, authority.context(), within=SOON)
    assert found == old.endpoints
    for name in ("frozen", "dead", "a"):
        assert f"proxy {name} does not say what it serves" in caplog.text


async def test_nothing_is_learned_where_no_proxy_of_the_fleet_serves_anything(authority, files):
    context = authority.context()
    assert await recall(FLEET, {}, context) == {}
    async with serve(files) as empty:
        assert await recall(FLEET, {"a": empty.address}, context) == {}
        await empty.receiver.restore(snapshot())
        assert await recall("another", {"a": empty.address}, context) == {}


@pytest.mark.parametrize("silent", [1, 20])
async def test_proxies_that_fall_silent_cost_their_time_once(authority, files, silent):
    """They say which version they serve, and no more: nothing is published meanwhile."""
    served = with_pods(snapshot(1), 2)
    forever = asyncio.Event()

    async def hangs(request):
        if request.path.endswith("snapshot"):
            await forever.wait()

    async with serve(files, name="z", before=hangs) as hanging, serve(files, name="a") as good:
        await hanging.receiver.restore(served)
        await good.receiver.restore(served)
        # Those are asked first: they are the newest and, of one version, the last by their names.
        proxies = {"a": good.address} | {f"z{number}": hanging.address for number in range(silent)}
        try:
            async with asyncio.timeout(4 * SOON):
                found = await recall(FLEET, proxies, authority.context(), within=SOON)
        finally:
            forever.set()
    assert found == (served.endpoints if silent == 1 else {})
