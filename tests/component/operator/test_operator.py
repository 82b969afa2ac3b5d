"""The whole operator on real sockets: a small API server with faults on one side, proxies on the other."""

import asyncio
import contextlib
import time

import aiohttp
import pytest
from tests.waiting import until

from stickyroute_api.reasons import EndpointState
from stickyroute_operator.epoch import Superseded


def route(name="shop", namespace="default", **spec):
    spec = {
        "className": "stickyroute",
        "hosts": [f"{name}.example.com"],
        "rules": [{"name": "app", "backends": [{"service": "web", "port": 80}]}],
    } | spec
    meta = {"name": name, "namespace": namespace, "generation": 1}
    return {"apiVersion": "stickyroute.dev/v1alpha1", "kind": "StickyRoute", "metadata": meta, "spec": spec}


def service(name="web", namespace="default"):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ports": [{"port": 80}]}}


def pods(*numbers, name="web-1", namespace="default"):
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [
            {"addresses": [f"10.0.0.{n}"], "targetRef": {"kind": "Pod", "name": f"web-{n}", "uid": f"u{n}"}}
            for n in numbers
        ],
    }


def fill(api):
    api.put("services", service())
    api.put("endpointslices", pods(1, 2))
    api.put("stickyroutes", route())


def served(proxy):
    """What a proxy serves of the one Service, by pod."""
    snapshot = proxy.receiver.snapshot
    if snapshot is None:
        return {}
    return {one.pod: one.state for one in snapshot.endpoints.get("default/web:80", ())}


def serves(*numbers, state=EndpointState.SERVING):
    return {f"web-{number}": state for number in numbers}


def condition(api, kind, name="shop"):
    status = (api.get("stickyroutes", name) or {}).get("status") or {}
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})


def events(api):
    return {item["reason"]: item for (plural, _, _), item in api.objects.items() if plural == "events"}


async def test_from_nothing_to_ready(api, start, proxies):
    fill(api)
    async with start() as operator, proxies("proxy-0", "proxy-1") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        await until(lambda: all(served(proxy) == serves(1, 2) for proxy in running.values()))
        status = api.get("stickyroutes", "shop")["status"]
        assert status["fleet"]["inSync"] == "2/2"
        assert status["endpointsReady"] == "2/2"
        await until(lambda: "Programmed" in events(api))
        assert (
            events(api)["Programmed"]["involvedObject"]["uid"]
            == api.get("stickyroutes", "shop")["metadata"]["uid"]
        )
        assert api.get("leases", "sr-operator", "system")["spec"]["leaseTransitions"] == 1
        assert operator.health.lack() == ""
    touched = [request for request in api.requests if request[1] == "stickyroutes" and request[0] != "GET"]
    assert {request[3] for request in touched} == {"status"}


async def test_the_watches_live(api, start, proxies, caplog):
    fill(api)
    async with start() as operator, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        await until(lambda: operator.watches.heard["EndpointSlice"])
        api.put("endpointslices", pods(1, 2, 3))
        await until(lambda: "web-3" in served(running["proxy-0"]))
        assert (operator.watches.starts, operator.watches.stillborn) == (1, 0)
        assert "the watches ended" not in caplog.text


async def test_a_pods_change_reaches_every_proxy_at_once(api, start, proxies):
    fill(api)
    async with start(), proxies("proxy-0", "proxy-1") as running:
        await until(lambda: all(served(proxy) == serves(1, 2) for proxy in running.values()))
        took = []
        for turn in range(10):
            await asyncio.sleep(0.25)
            wanted = (1, 2) if turn % 2 else (1,)
            begin = time.monotonic()
            api.put("endpointslices", pods(*wanted))
            await until(
                lambda wanted=wanted: all(
                    set(served(proxy)) == set(serves(*wanted)) for proxy in running.values()
                )
            )
            took.append(time.monotonic() - begin)
        took.sort()
        print(f"pod change to last proxy: median {took[5] * 1000:.0f} ms, worst {took[-1] * 1000:.0f} ms")
        assert took[5] < 0.5


async def test_nothing_unchanged_is_written(api, start, proxies):
    fill(api)
    async with start() as operator, proxies("proxy-0"):
        await until(lambda: condition(api, "Ready").get("status") == "True")
        await asyncio.sleep(0.5)
        api.requests.clear()
        await operator.resync.once()
        operator.reconciler.poke()
        operator.reporter.poke()
        await asyncio.sleep(0.5)
        assert [request for request in api.requests if request[0] != "GET"] == []


async def test_a_deletion_that_no_watch_tells_is_found_by_the_resync(api, start, proxies):
    fill(api)
    async with start() as operator, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        api.remove("stickyroutes", "shop", tell=False)
        await operator.resync.once()
        await until(lambda: running["proxy-0"].receiver.snapshot.routes == {})


async def test_watches_that_are_gone_or_silent_are_outlived(api, start, proxies):
    fill(api)
    api.gone = True
    async with start() as operator, proxies("proxy-0") as running:
        await until(lambda: set(served(running["proxy-0"])) == set(serves(1, 2)))
        api.gone, api.silent = False, True
        api.put("endpointslices", pods(1, 2, 3))
        await operator.resync.once()
        await until(lambda: set(served(running["proxy-0"])) == set(serves(1, 2, 3)))


async def test_the_api_away_changes_nothing_and_its_return_is_noticed(api, start, proxies):
    fill(api)
    async with start() as operator, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        await api.stop()
        operator.reconciler.poke()
        assert not await operator.resync.once()
        assert operator.health.trouble() == ""
        assert served(running["proxy-0"]) == serves(1, 2)
        api.put("endpointslices", pods(1), tell=False)
        await api.start()
        begin = time.monotonic()
        operator.resync.interval = 0.1
        assert await operator.resync.once()
        await until(lambda: set(served(running["proxy-0"])) == set(serves(1)))
        assert time.monotonic() - begin < 5
        api.put("endpointslices", pods(1, 4))
        await until(lambda: set(served(running["proxy-0"])) == set(serves(1, 4)), what="the watches' return")


async def test_a_status_that_is_not_granted_is_tried_again(api, start, proxies):
    fill(api)
    api.faults["PATCH", "stickyroutes"] = 503
    async with start() as operator, proxies("proxy-0"):
        await until(lambda: operator.reporter.counts["failure"] >= 2)
        del api.faults["PATCH", "stickyroutes"]
        await until(lambda: condition(api, "Ready").get("status") == "True")


async def test_a_bad_route_is_told_and_the_good_one_serves_on(api, start, proxies):
    fill(api)
    async with start(), proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        api.put("stickyroutes", route("bad", healthCheck={}))
        await until(lambda: condition(api, "Accepted", "bad").get("status") == "False")
        assert "spec.healthCheck" in condition(api, "Accepted", "bad")["message"]
        await until(lambda: "NotAccepted" in events(api))
        assert set(running["proxy-0"].receiver.snapshot.routes) == {"default/shop"}


async def test_events_of_one_reason_are_one_object(api, start, proxies):
    fill(api)
    async with start(), proxies("proxy-0"):
        await until(lambda: condition(api, "Ready").get("status") == "True")
        for turn in (1, 2):
            api.remove("services", "web")
            await until(lambda: condition(api, "ResolvedRefs").get("status") == "False")
            await until(lambda turn=turn: events(api).get("BackendNotFound", {}).get("count") == turn)
            api.put("services", service())
            await until(lambda: condition(api, "ResolvedRefs").get("status") == "True")


async def test_a_new_operator_goes_on_where_the_old_one_stopped(api, start, proxies):
    fill(api)
    async with start():
        async with proxies("proxy-0") as running:
            await until(lambda: condition(api, "Ready").get("status") == "True")
            assert running["proxy-0"].receiver.version.epoch == 1
            await until(lambda: "Programmed" in events(api))  # written behind the status
        before = api.get("stickyroutes", "shop")["status"]
    async with start(instance="operator-1"), proxies("proxy-0") as running:
        await until(lambda: running["proxy-0"].receiver.version is not None)
        await until(lambda: served(running["proxy-0"]) == serves(1, 2))
        assert running["proxy-0"].receiver.version.epoch == 2
        await until(lambda: api.get("stickyroutes", "shop")["status"]["fleet"]["revision"].startswith("2."))
        after = api.get("stickyroutes", "shop")["status"]
        dates = [[one["lastTransitionTime"] for one in status["conditions"]] for status in (before, after)]
        assert dates[0] == dates[1]
        await until(lambda: condition(api, "Ready").get("status") == "True")
        assert events(api)["Programmed"]["count"] == 1


async def test_a_restarted_operator_tells_of_no_change_that_was_none(api, start, proxies):
    fill(api)
    async with contextlib.AsyncExitStack() as stack:
        async with start():
            await stack.enter_async_context(proxies("proxy-0", "proxy-1"))
            await until(lambda: condition(api, "Ready").get("status") == "True")
            await asyncio.sleep(0.5)
        before = api.get("stickyroutes", "shop")["status"]
        assert {one["state"] for one in before["endpoints"]} == {"Serving"}
        await asyncio.sleep(1.1)  # times in a status are whole seconds
        told = events(api)["Programmed"]["count"]
        api.requests.clear()
        async with start(instance="operator-1"):
            await until(lambda: api.get("stickyroutes", "shop")["status"]["fleet"] != before["fleet"])
            await asyncio.sleep(0.5)
        after = api.get("stickyroutes", "shop")["status"]
        assert after["endpoints"] == before["endpoints"]
        assert after["conditions"] == before["conditions"]
        assert events(api)["Programmed"]["count"] == told
        assert len([request for request in api.requests if request[3] == "status"]) == 1


async def test_a_higher_epoch_is_met(api, start, proxies):
    fill(api)
    async with start() as operator, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        operator._met_higher(7)
        await until(lambda: running["proxy-0"].receiver.version.epoch == 8)
        assert api.get("leases", "sr-operator", "system")["spec"]["leaseTransitions"] == 8


async def test_another_holder_of_the_lease_ends_the_operator(api, start):
    async with start() as operator:
        await until(lambda: operator.health.waiting_for == "")
        lease = api.get("leases", "sr-operator", "system")
        api.put("leases", {**lease, "spec": {**lease["spec"], "holderIdentity": "other"}})
        operator._met_higher(7)
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(operator.task, 5)
        assert caught.group_contains(Superseded)


async def test_a_bad_secret_is_waited_for(api, start, proxies, caplog):
    fill(api)
    api.put("secrets", {"metadata": {"name": "sr-token-keys", "namespace": "system"}, "data": {"x": "eA=="}})
    async with start() as operator:
        await until(lambda: "sr-token-keys" in operator.health.waiting_for)
        assert operator.health.lack().startswith("waiting for Secret sr-token-keys")
        api.put("secrets", {"metadata": {"name": "sr-token-keys", "namespace": "system"}})
        async with proxies("proxy-0") as running:
            await until(lambda: served(running["proxy-0"]) == serves(1, 2))


async def test_only_watched_namespaces_are_followed(api, start, proxies):
    api.put("services", service(namespace="mine"))
    api.put("endpointslices", pods(1, namespace="mine"))
    api.put("stickyroutes", route(namespace="mine"))
    api.put("stickyroutes", route("other", namespace="theirs"))
    async with start(watch_namespaces=("mine",)) as operator, proxies("proxy-0") as running:
        await until(lambda: running["proxy-0"].receiver.version is not None)
        assert set(running["proxy-0"].receiver.snapshot.routes) == {"mine/shop"}
        assert {key[0] for key in operator.store.slices} == {"mine"}


async def test_many_objects_are_listed_by_pages(api, connect):
    for number in range(7):
        api.put("services", service(f"s{number}"))
    api.page = 3
    from stickyroute_operator.cluster import SERVICES

    items, version = await (await connect()).list_all(SERVICES)
    assert [item["metadata"]["name"] for item in items] == [f"s{number}" for number in range(7)]
    assert version == str(api.version)


async def test_health_and_metrics_answer(api, start, proxies, unused_tcp_port):
    fill(api)
    from dataclasses import replace

    async with start() as operator:
        operator.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await operator.task
        operator._options = replace(operator._options, health=("127.0.0.1", unused_tcp_port))
        operator.task = asyncio.create_task(operator.run())
        async with aiohttp.ClientSession(f"http://127.0.0.1:{unused_tcp_port}") as session, proxies("p"):
            await until(lambda: condition(api, "Ready").get("status") == "True")
            for path in ("/healthz", "/readyz"):
                async with session.get(path) as answer:
                    assert (answer.status, await answer.text()) == (200, "ok\n")
            async with session.get("/metrics") as answer:
                text = await answer.text()
        assert 'stickyroute_proxies{ready="true",state="current"} 1.0' in text
        assert "stickyroute_snapshot_epoch" in text
        operator.task.cancel()
