"""Connections that have not come to a request count: towards all connections, and towards their address's."""

import asyncio

from tests.component.wire.harness import Raw, echo, eventually, get, serving
from tests.component.wire.securely import connect, serving_tls

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


async def test_half_open_handshakes_of_one_address_are_bounded():
    async with serving_tls(echo()) as (proxy, _):
        plane = proxy.plane
        given = plane.table.snapshot
        settings = Settings(limits=Limits(connections_per_address=2))
        proxy.apply(given.model_copy(update={"settings": settings, "revision": 3}))

        async def begin():
            return Raw(*await asyncio.open_connection("127.0.0.1", proxy.https))

        waiting = [await begin() for _ in range(2)]
        await eventually(lambda: len(plane.openings) == 2)
        refused = await begin()
        assert await refused.rest() == b""
        assert plane.counters.shed == {"ConnectionsPerAddress": 1}
        await refused.close()
        await waiting.pop().close()
        await eventually(lambda: len(plane.openings) == 1)
        for _ in range(3):  # one that comes to its requests counts once, until it ends
            served = await connect(proxy.https)
            await served.send(get())
            assert (await served.answer())[0].startswith(b"HTTP/1.1 200 ")
            refused = await begin()
            assert await refused.rest() == b""
            await refused.close()
            await served.close()
            await eventually(lambda: plane.counters.open_connections == 1)
        # The limit may come and go meanwhile.
        proxy.apply(given.model_copy(update={"revision": 4}))
        more = await begin()
        await eventually(lambda: len(plane.openings) == 2)
        proxy.apply(given.model_copy(update={"settings": settings, "revision": 5}))
        refused = await begin()
        assert await refused.rest() == b""
        for raw in (refused, more, *waiting):
            await raw.close()
        await eventually(lambda: not plane.counters.open_connections)
        assert not plane.admission._of


async def test_behind_a_proxy_handshakes_count_for_the_address_that_it_names():
    async with serving_tls(echo()) as (proxy, _):
        plane = proxy.plane
        settings = Settings(
            proxy_protocol=True, trusted_proxies=("127.0.0.0/8",), limits=Limits(connections_per_address=1)
        )
        proxy.apply(plane.table.snapshot.model_copy(update={"settings": settings, "revision": 3}))
        opened = []
        for client, admitted in (("192.0.2.1", 1), ("192.0.2.1", 1), ("192.0.2.2", 2), ("127.0.0.9", 3)):
            raw = Raw(*await asyncio.open_connection("127.0.0.1", proxy.https))
            await raw.send(f"PROXY TCP4 {client} 10.0.0.1 1 443\r\n".encode())
            if len(opened) == admitted:
                assert await raw.rest() == b""
                await raw.close()
            else:
                opened.append(raw)
            await eventually(lambda admitted=admitted: len(plane.openings) == admitted)
        assert plane.counters.shed == {"ConnectionsPerAddress": 1}
        for raw in opened:
            await raw.close()
        await eventually(lambda: not plane.counters.open_connections)
        assert not plane.admission._of
