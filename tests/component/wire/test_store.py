"""Learned keys in a real Valkey: found by every proxy, for as long as they hold, and told to nobody."""

import asyncio
import ssl

import pytest
from tests.component.wire.apps import App, Browser, Clock, fleet_of, pod_of
from tests.component.wire.harness import endpoint, eventually, fleet, get, serving
from tests.component.wire.stored import SCOPE, STORED, forget, lookups, pods, reached, store_at, written
from tests.component.wire.valkeys import Faults, told, valkey

from stickyroute_api import snapshot
from stickyroute_proxy.store import link


async def test_the_fleet_shares_what_one_proxy_has_learned():
    async with (
        valkey() as server,
        fleet_of(*pods(), proxies=3, settings=store_at(server.port), **STORED) as (proxies, *_),
    ):
        await reached(*proxies)
        clients = [Browser() for _ in range(20)]
        places = {}
        for client in clients:
            places[client] = await client.ask(proxies[0])
            assert client.kept["ID"] == places[client][1].decode()
        await written(proxies[0])
        for proxy in proxies:
            for client in clients:
                assert await client.ask(proxy) == places[client]
        assert lookups(*proxies) == {"local": 20, "hit": 40}
        for client in clients:
            await client.ask(proxies[1])
        assert lookups(proxies[1]) == {"hit": 20, "local": 20}
        keys = await told(server.port, b"DBSIZE")
        assert keys == b":21"


async def test_a_moved_session_is_moved_for_all():
    apps = pods()
    async with (
        valkey() as server,
        fleet_of(*apps, proxies=2, settings=store_at(server.port), **STORED) as (proxies, endpoints, apply),
    ):
        await reached(*proxies)
        client = Browser()
        pod, value = await client.ask(proxies[0])
        await written(proxies[0])
        for app in apps:
            app.sessions.add(value)
        gone = endpoints.pop(pod)
        apply()
        moved, _ = await client.ask(proxies[0])
        assert moved != pod
        await written(proxies[0])
        endpoints[pod] = gone
        apply()
        # A pod more, and no session moves.
        assert {await client.ask(proxy) for proxy in (*proxies, *proxies)} == {(moved, value)}
        told_of = [app for app in apps for head in app.heads if b"x-session-lost: PodTerminated" in head]
        assert len(told_of) == 1


async def test_a_session_that_its_policy_ends_is_no_longer_kept():
    apps = pods()
    failover = snapshot.Failover(mode="Redirect", redirect_url="/login")
    async with (
        valkey() as server,
        fleet_of(*apps, proxies=2, settings=store_at(server.port), failover=failover, **STORED) as (
            proxies,
            endpoints,
            apply,
        ),
    ):
        await reached(*proxies)
        client = Browser()
        pod, _ = await client.ask(proxies[0])
        await written(proxies[0])
        del endpoints[pod]
        apply()
        head = await proxies[1].ask(get("/", f"Cookie: ID={client.kept['ID']}", "Connection: close"))
        assert head.startswith(b"HTTP/1.1 302 Found\r\n")
        assert b"set-cookie" not in head.lower()
        await written(proxies[1])
        assert (await client.ask(proxies[1]))[0] in {app.name for app in apps} - {pod}
        assert await told(server.port, b"DBSIZE") == b":2"


class Chatting(App):
    """Gives out a cookie, and speaks WebSocket."""

    async def script(self, peer):
        while True:
            head, _ = await peer.request()
            if b"websocket" not in head:
                await peer.send(self.reply(head))
                continue
            await peer.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"X-Pod: %b\r\n\r\n" % self.name
            )
            while await peer.read():
                pass
            return


async def test_an_idle_chat_finds_its_pod_again_through_another_proxy():
    clock = Clock()
    apps = [Chatting(name) for name in (b"a", b"b", b"c")]
    policy = {"idle_timeout": 60.0, **STORED}
    async with (
        valkey() as server,
        fleet_of(*apps, proxies=2, clock=clock, settings=store_at(server.port), **policy) as (proxies, *_),
    ):
        await reached(*proxies)
        client = Browser()
        place = await client.ask(proxies[0])
        raw = await proxies[0].connect()
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")
        await raw.send(get("/", f"Cookie: ID={client.kept['ID']}", *upgrade, "Sec-WebSocket-Version: 13"))
        assert pod_of(await raw.head()) == place[0]
        await written(proxies[0])
        clock.now += 200
        await raw.close()
        assert await client.ask(proxies[1]) == place
        await written(proxies[1])
        # An ordinary answer has the idle timer run again.
        clock.now += 100
        await client.ask(proxies[1])
        assert proxies[1].plane.table.scopes[SCOPE].expired == 1


async def test_both_timers_count_and_the_idle_one_is_refreshed_for_all():
    clock = Clock()
    policy = {"idle_timeout": 100.0, "absolute_timeout": 500.0, **STORED}
    apps = pods()
    async with (
        valkey() as server,
        fleet_of(*apps, proxies=2, clock=clock, settings=store_at(server.port), **policy) as (proxies, *_),
    ):
        await reached(*proxies)
        client = Browser()
        place = await client.ask(proxies[0])
        for app in apps:
            app.sessions.add(place[1])
        for turn in range(6):
            clock.now += 80
            await written(proxies[0])
            await written(proxies[1])
            assert await client.ask(proxies[turn % 2]) == place
        clock.now += 80
        await client.ask(proxies[0])
        scope = proxies[0].plane.table.scopes[SCOPE]
        assert (scope.expired, scope.new) == (1, 2)
        clock.now += 111
        await client.ask(proxies[0])
        assert scope.expired == 2


async def test_an_unknown_value_is_placed_alike_by_all_and_takes_no_memory():
    async with (
        valkey() as server,
        fleet_of(*pods(), proxies=2, settings=store_at(server.port), **STORED) as (proxies, *_),
    ):
        await reached(*proxies)
        for app_value in range(20):
            line = f"Cookie: ID=unknown-{app_value}"
            assert len({(await Browser().ask(proxy, line))[0] for proxy in (*proxies, *proxies)}) == 1
        assert lookups(*proxies) == {"miss": 80}
        assert len({(await Browser().ask(proxies[0], f"Cookie: ID=unknown-{n}"))[0] for n in range(20)}) == 3
        # Only what the applications have given out is kept: one with each answer.
        assert sum(len(proxy.plane.memory._known) for proxy in proxies) == 20 * 4 + 20
        # By each value that is shown one session begins, whoever shows it how often.
        assert [proxy.plane.table.scopes[SCOPE].new for proxy in proxies] == [20, 20]


async def test_the_store_holds_neither_values_nor_pods_and_can_forge_none():
    async with (
        valkey() as server,
        fleet_of(*pods(), proxies=2, settings=store_at(server.port), **STORED) as (proxies, *_),
    ):
        await reached(*proxies)
        one, other = Browser(), Browser()
        await one.ask(proxies[0])
        await other.ask(proxies[0])
        await written(proxies[0])
        scope = proxies[0].plane.table.scopes[SCOPE]
        keys = [link.PREFIX + scope.key(client.kept["ID"].encode()) for client in (one, other)]
        from valkey.asyncio import Valkey

        async with Valkey(port=server.port) as client:
            names = await client.keys("*")
            held = await client.mget(*keys)
            assert all(held)
            assert not [name for name in names if b"ID" in name or one.kept["ID"].encode() in name]
            await client.set(keys[0], held[1])  # one client's binding under another's key
            await client.set(keys[1], b"garbage")
        await one.ask(proxies[1])
        await other.ask(proxies[1])
        assert lookups(proxies[1]) == {"miss": 2}


async def test_tls_and_a_password_that_no_log_tells(caplog, tmp_path):
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("valkey.test")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem")
    async with valkey(requirepass="hunter2") as server:
        # The server at hand was built without TLS: it is put before it.
        faults = await Faults(server.port).start(ssl=context)
        ca = (tmp_path / "ca.pem").read_text()
        right = {"tls": True, "ca": ca, "server_name": "valkey.test", "password": "hunter2"}
        for wrong in ({"server_name": "other.test"}, {"password": "hunter3"}, {"ca": ""}):
            settings = store_at(faults.port, **{**right, **wrong})
            async with fleet_of(*pods(), settings=settings, **STORED) as (proxies, *_):
                await eventually(lambda: "is away" in caplog.text)
                assert not proxies[0].plane.counters.store_reachable
                assert "hunter" not in caplog.text
                caplog.clear()
        async with fleet_of(*pods(), settings=store_at(faults.port, **right), **STORED) as (proxies, *_):
            await reached(*proxies)
            client = Browser()
            place = await client.ask(proxies[0])
            await written(proxies[0])
            forget(proxies[0])
            assert await client.ask(proxies[0]) == place
            assert lookups(proxies[0]) == {"hit": 1}
        await faults.stop()
        assert "hunter" not in repr(settings) + caplog.text


@pytest.mark.parametrize(
    "before", [{"type": "Cookie", "cookie": snapshot.Cookie(name="sr")}, {"type": "None"}]
)
async def test_an_answer_that_comes_under_another_policy_than_its_request(before):
    asked, go = asyncio.Event(), asyncio.Event()

    async def script(peer):
        await peer.request()
        asked.set()
        await go.wait()
        await peer.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: ID=x\r\nContent-Length: 2\r\n\r\nok")

    async with serving(script, persistence=snapshot.Persistence(**before)) as (proxy, backend):
        answer = asyncio.create_task(proxy.ask(get("/", "Connection: close")))
        await asked.wait()
        stored = snapshot.Persistence(**STORED)
        proxy.apply(fleet(endpoint(backend.port), revision=2, persistence=stored))
        go.set()
        assert (await answer).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_of_two_values_the_first_that_is_known_to_any_proxy_counts():
    first = rb"(?im)^cookie: ID=([^;\r]*)"
    apps = [App(name, shown=first) for name in (b"a", b"b", b"c")]
    async with (
        valkey() as server,
        fleet_of(*apps, proxies=2, settings=store_at(server.port), **STORED) as (proxies, *_),
    ):
        await reached(*proxies)
        one = Browser()
        pod, value = await one.ask(proxies[0])
        while True:
            other = Browser()
            if (await other.ask(proxies[1]))[0] != pod:
                break
        await written(proxies[0])
        both = Browser()
        both.kept = {"ID": f"{one.kept['ID']}; ID={other.kept['ID']}"}
        assert await both.ask(proxies[1]) == (pod, value)
        # Without the store it is as before: what is known here is better than nothing.
        await server.stop()
        known = proxies[1].plane.memory._known
        known.pop(next(reversed(known)))
        await eventually(lambda: not proxies[1].plane.counters.store_reachable)
        assert (await both.ask(proxies[1]))[0] != pod
