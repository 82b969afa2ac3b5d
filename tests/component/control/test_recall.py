"""What an operator learns from proxies when it begins, from real control ports."""

import socket

import aiohttp
from tests.component.control.support import FLEET, serve, snapshot, with_pods

from stickyroute_operator.publish import ProxyAddress
from stickyroute_operator.recall import recall

SOON = aiohttp.ClientTimeout(total=0.3, sock_connect=0.3)


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
