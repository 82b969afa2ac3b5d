"""What becomes of requests while the store is slow, stalls, is away, emptied or full."""

import asyncio
from time import monotonic

import pytest
from tests.component.wire.apps import App, Browser, fleet_of
from tests.component.wire.harness import eventually, get
from tests.component.wire.stored import STORED, lookups, pods, reached, store_at, written
from tests.component.wire.valkeys import Faults, told, valkey

from stickyroute_api import snapshot
from stickyroute_api.reasons import EndpointState
from stickyroute_proxy import exchange
from stickyroute_proxy.store import memory


class Waits:
    """What requests wait for the store at most, by the timers that the proxy sets for them, in seconds."""

    def __init__(self, monkeypatch):
        self.set = []
        wait = memory._Recall.wait

        def seen(recall, loop, seconds):
            asked = monotonic()  # the timers' clock; the loop's own time stands still while it is busy
            wait(recall, loop, seconds)
            self.set.append(recall._timer.when() - asked)

        monkeypatch.setattr(memory._Recall, "wait", seen)


async def test_no_request_of_many_waits_for_a_store_that_stalls_longer_than_50_ms(monkeypatch):
    waits = Waits(monkeypatch)
    async with valkey() as server:
        faults = await Faults(server.port).start()
        async with fleet_of(*pods(), settings=store_at(faults.port), **STORED) as (proxies, *_):
            (proxy,) = proxies
            await reached(proxy)

            async def asks(lane):
                for number in range(50):
                    await Browser().ask(proxy, f"Cookie: ID=unknown-{lane}-{number}")

            await asks("before")
            assert lookups(proxy) == {"miss": 50}
            faults.stalled = True
            await asyncio.gather(*map(asks, range(20)))
            told_of = lookups(proxy)
            faults.stalled = False
        await faults.stop()
    # One timer for each, none for longer; whom it did not end was told before that the store is away.
    assert len(waits.set) == 1050
    assert max(waits.set) <= 0.05
    assert told_of.keys() == {"miss", "late", "error"}
    assert told_of["late"] + told_of["error"] == 1000


async def test_a_request_that_is_decided_anew_does_not_wait_for_the_store_once_more(monkeypatch):
    waits = Waits(monkeypatch)
    failover = snapshot.Failover(hold=0.2)
    async with valkey() as server:
        faults = await Faults(server.port).start()
        async with fleet_of(*pods(), settings=store_at(faults.port), failover=failover, **STORED) as (
            (proxy,),
            endpoints,
            apply,
        ):
            await reached(proxy)
            client = Browser()
            home, _ = await client.ask(proxy)
            await written(proxy)
            away = {"state": EndpointState.NOT_READY, "serving": False}
            endpoints[home] = endpoints[home].model_copy(update=away)
            apply()
            faults.stalled = True
            pod, _ = await client.ask(proxy)
            assert pod != home
            told_of = lookups(proxy)
            faults.stalled = False
        await faults.stop()
    # Before its pod was waited for, and after.
    assert told_of == {"late": 2}
    assert sum(waits.set) <= 0.05


async def test_a_request_waits_for_a_slow_store_at_most_so_long_and_the_next_one_not():
    apps = pods()
    async with valkey() as server:
        faults = await Faults(server.port).start()
        async with fleet_of(*apps, proxies=2, settings=store_at(faults.port), **STORED) as (proxies, *_):
            await reached(*proxies)
            client = Browser()
            place = await client.ask(proxies[0])
            for app in apps:
                app.sessions.add(place[1])
            await written(proxies[0])
            faults.delay = 0.08
            await client.ask(proxies[1])
            assert lookups(proxies[1]) == {"late": 1}
            await eventually(lambda: proxies[1].plane.memory._known)
            assert await client.ask(proxies[1]) == place
            assert lookups(proxies[1]) == {"late": 1, "local": 1}
            assert proxies[1].plane.counters.store_reachable
        await faults.stop()


@pytest.mark.parametrize("how", ["stall", "refuse", "gone"])
async def test_what_is_known_serves_while_the_store_is_away_and_it_recovers_by_itself(how):
    apps = pods()
    async with valkey() as server:
        faults = await Faults(server.port).start()
        async with fleet_of(*apps, proxies=2, settings=store_at(faults.port), **STORED) as (proxies, *_):
            await reached(*proxies)
            clients = [Browser() for _ in range(10)]
            places = [await client.ask(proxies[0]) for client in clients]
            await written(proxies[0])
            faults.stalled = how == "stall"
            faults.refuses = how != "stall"
            if how != "stall":
                faults.reset()
            if how == "gone":
                await server.stop()
            assert [await client.ask(proxies[0]) for client in clients] == places
            for app in apps:
                app.sessions.update(value for _, value in places)
            stranger = [
                (await Browser().ask(proxy, "Cookie: ID=stranger"))[0] for proxy in (*proxies, *proxies)
            ]
            assert len(set(stranger)) == 1
            await eventually(lambda: not any(proxy.plane.counters.store_reachable for proxy in proxies))
            late = lookups(proxies[1]).get("late", 0)
            for _ in range(20):
                await Browser().ask(proxies[1], "Cookie: ID=stranger")
            assert lookups(proxies[1]).get("late", 0) == late  # nobody waits for a store that is away
            newcomer = Browser()
            place = await newcomer.ask(proxies[0])
            if how == "gone":
                await server.start()
            faults.stalled = faults.refuses = False
            await reached(*proxies)
            await written(proxies[0])
            assert await newcomer.ask(proxies[1]) == place
        await faults.stop()


async def test_a_store_that_was_emptied_is_filled_again():
    async with (
        valkey() as server,
        fleet_of(*pods(), proxies=2, settings=store_at(server.port), **STORED) as (proxies, *_),
    ):
        await reached(*proxies)
        clients = [Browser() for _ in range(10)]
        places = [await client.ask(proxies[0]) for client in clients]
        await written(proxies[0])
        await told(server.port, b"FLUSHALL")
        for _ in range(300):
            if await told(server.port, b"DBSIZE") == b":11":
                break
            await asyncio.sleep(0.02)
        assert await told(server.port, b"DBSIZE") == b":11"
        assert [await client.ask(proxies[1]) for client in clients] == places


async def test_a_reset_connection_is_made_anew_at_once():
    async with valkey() as server:
        faults = await Faults(server.port).start()
        async with fleet_of(*pods(), proxies=2, settings=store_at(faults.port), **STORED) as (proxies, *_):
            await reached(*proxies)
            client = Browser()
            place = await client.ask(proxies[0])
            await written(proxies[0])
            faults.reset()
            assert await client.ask(proxies[1]) == place
            assert lookups(proxies[1]) == {"hit": 1}
        await faults.stop()


async def test_without_a_store_there_is_local_knowledge():
    async with fleet_of(*pods(), proxies=2, **STORED) as (proxies, *_):
        client = Browser()
        place = await client.ask(proxies[0])
        assert await client.ask(proxies[0]) == place
        assert lookups(*proxies) == {"local": 1}
        await Browser().ask(proxies[1], "Cookie: ID=x")
        assert lookups(proxies[1]) == {"error": 1}


async def test_a_store_that_takes_no_entries_still_answers():
    async with (
        valkey(maxmemory="1mb", **{"maxmemory-policy": "noeviction"}) as server,
        fleet_of(*pods(), settings=store_at(server.port), **STORED) as (proxies, *_),
    ):
        await reached(*proxies)
        await Browser().ask(proxies[0])
        await eventually(lambda: proxies[0].plane.counters.store_dropped)
        assert proxies[0].plane.counters.store_reachable
        await Browser().ask(proxies[0], "Cookie: ID=x")
        assert lookups(proxies[0]) == {"miss": 1}


async def test_who_leaves_while_waiting_leaves_nothing_behind():
    async with valkey() as server:
        faults = await Faults(server.port).start()
        async with fleet_of(*pods(), settings=store_at(faults.port), **STORED) as (proxies, *_):
            await reached(*proxies)
            faults.stalled = True
            raws = [await proxies[0].connect() for _ in range(20)]
            for raw in raws:
                await raw.send(get("/", "Cookie: ID=x"))
                raw.reset()
            await eventually(lambda: not proxies[0].plane.counters.exchanges)
            faults.stalled = False
        await faults.stop()


async def test_nothing_goes_to_a_pod_that_left_while_the_store_was_asked(monkeypatch):
    """Its route went with it, so that no rule tells; its address may be another's by now."""
    monkeypatch.setattr(exchange, "WAIT", 0.3)
    app = App(b"a")
    async with valkey() as server:
        faults = await Faults(server.port).start()
        async with fleet_of(app, settings=store_at(faults.port), **STORED) as ((proxy,), _, _):
            await reached(proxy)
            faults.stalled = True
            raw = await proxy.connect()
            await raw.send(get("/", "Cookie: ID=unknown"))
            await eventually(lambda: proxy.plane.counters.exchanges == 1)
            given = proxy.plane.table.snapshot
            proxy.apply(given.model_copy(update={"routes": {}, "endpoints": {}, "revision": 2}))
            head, _ = await raw.answer()
            faults.stalled = False
            await raw.close()
        await faults.stop()
    assert head.startswith(b"HTTP/1.1 404 ")
    assert not app.heads
