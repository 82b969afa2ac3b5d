"""What an operator learns from proxies when it begins, from real control ports."""

import asyncio
import json
import socket

import aiohttp
from aiohttp import web
from tests.component.control.support import FLEET, serve, snapshot, with_pods

from stickyroute_operator import recall as recollection
from stickyroute_operator.publish import ProxyAddress
from stickyroute_operator.recall import recall

SOON = aiohttp.ClientTimeout(total=2, sock_connect=2)


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
            found = await recall(FLEET, proxies, authority.context(), timeout=SOON)
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


async def test_what_a_proxy_serves_of_a_newer_version_is_taken_as_far_as_it_is_known(authority, files):
    """After a rollback: else each drain would end with it."""

    async def serves_more(request):
        if request.path.endswith("snapshot"):
            told = new.model_dump(mode="json")
            for endpoints in told["endpoints"].values():
                for one in endpoints:
                    one["later"] = 1
            raise web.HTTPOk(text=json.dumps(told | {"later": {}}))

    new = snapshot()
    async with serve(files, before=serves_more) as served:
        await served.receiver.restore(new)
        assert await recall(FLEET, {"a": served.address}, authority.context()) == new.endpoints


async def test_what_is_larger_than_any_snapshot_is_not_read(authority, files, monkeypatch):
    monkeypatch.setattr(recollection, "MAX_SNAPSHOT_BYTES", 4000)
    small, large = snapshot(1), snapshot(2, routes=30)
    async with serve(files, name="a") as one, serve(files, name="b") as other:
        await one.receiver.restore(small)
        await other.receiver.restore(large)
        proxies = {"a": one.address, "b": other.address}
        assert await recall(FLEET, proxies, authority.context()) == small.endpoints


async def test_proxies_that_stall_one_after_the_other_hold_a_start_up_only_so_long(
    authority, files, monkeypatch
):
    monkeypatch.setattr(recollection, "LIMIT", 1.0)

    async def stalls(request):
        if request.path.endswith("snapshot"):
            await asyncio.sleep(60)

    async with serve(files, before=stalls) as served:
        await served.receiver.restore(snapshot())
        proxies = {f"proxy-{number}": served.address for number in range(50)}
        assert await recall(FLEET, proxies, authority.context()) == {}
