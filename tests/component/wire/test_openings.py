"""Connections that have not come to a request count towards the limit of all connections."""

from tests.component.wire.harness import echo, get, serving

from stickyroute_api.settings import Limits, Settings


async def test_half_open_connections_are_bounded():
    async with serving(echo()) as (proxy, _):
        settings = Settings(
            proxy_protocol=True, trusted_proxies=("127.0.0.0/8",), limits=Limits(connections=4)
        )
        proxy.apply(proxy.plane.table.snapshot.model_copy(update={"settings": settings, "revision": 2}))
        waiting = [await proxy.connect() for _ in range(4)]
        refused = await proxy.connect()
        assert await refused.rest() == b""
        assert proxy.plane.counters.shed == {"Connections": 1}
        await refused.close()
        for raw in waiting:
            await raw.send(b"PROXY UNKNOWN\r\n" + get("/", "Connection: close"))
            assert (await raw.rest()).startswith(b"HTTP/1.1 200 ")
            await raw.close()
