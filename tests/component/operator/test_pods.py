"""What becomes of pods' lives, from the API's watch to the proxies, the status and the Events."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
from tests.component.operator.test_operator import condition, events, pods, route, service
from tests.waiting import until

from stickyroute_api.affinity import AffinityReport, Clash, EndpointSessions, ScopeReport
from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_operator import reporter
from stickyroute_operator.translate import endpoints as translated

DRAIN = {"persistence": {"drainTimeout": "10m"}}


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(number, *, started=1000, restarts=0, grace=700, **meta):
    container = {"restartCount": restarts, "state": {"running": {"startedAt": at(started)}}}
    return {
        "metadata": {
            "name": f"web-{number}",
            "uid": f"u{number}",
            "labels": {"pod-template-hash": "7f9"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7f9", "controller": True}],
            **meta,
        },
        "spec": {"terminationGracePeriodSeconds": grace},
        "status": {"phase": "Running", "containerStatuses": [container]},
    }


def fill(api, **spec):
    api.put("services", service())
    api.put("endpointslices", pods(1, 2))
    for number in (1, 2):
        api.put("pods", pod(number))
    api.put("stickyroutes", route(**DRAIN | spec))


def endpoints(proxy):
    snapshot = proxy.receiver.snapshot
    return {one.pod: one for one in snapshot.endpoints.get("default/web:80", ())} if snapshot else {}


def ending(*numbers, of=(1, 2)):
    """The slice in which these terminate."""
    piece = pods(*of)
    for number, entry in zip(of, piece["endpoints"], strict=True):
        if number in numbers:
            entry["conditions"] = {"ready": False, "serving": True, "terminating": True}
    return piece


async def test_a_restarted_container_reaches_the_proxies_the_status_and_an_event(api, start, proxies):
    fill(api)
    async with start(), proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        assert endpoints(running["proxy-0"])["web-1"].started == 1000
        assert endpoints(running["proxy-0"])["web-1"].cohort == "default/Deployment/web/7f9"
        api.put("pods", pod(1, started=2000, restarts=1))
        await until(lambda: endpoints(running["proxy-0"])["web-1"].started == 2000)
        assert endpoints(running["proxy-0"])["web-1"].state is EndpointState.SERVING
        await until(lambda: "ContainerRestarted" in events(api))
        assert "web-1" in events(api)["ContainerRestarted"]["message"]
        status = api.get("stickyroutes", "shop")["status"]
        assert {one["pod"]: one["restarts"] for one in status["endpoints"]} == {"web-1": 1, "web-2": 0}


async def test_a_drain_keeps_its_beginning_over_an_operators_restart(api, start, proxies):
    fill(api)
    told = time.time() - 60
    async with start(), proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        api.put("pods", pod(1, deletionTimestamp=at(told + 700), deletionGracePeriodSeconds=700))
        api.put("endpointslices", ending(1))
        await until(lambda: endpoints(running["proxy-0"])["web-1"].state is EndpointState.DRAINING)
        assert endpoints(running["proxy-0"])["web-1"].draining_since == int(told)
    async with start(instance="operator-1"), proxies("proxy-0") as running:
        await until(lambda: "web-1" in endpoints(running["proxy-0"]))
        assert endpoints(running["proxy-0"])["web-1"].draining_since == int(told)


async def test_a_pod_that_leaves_its_slices_drains_until_it_is_deleted(api, start, proxies):
    fill(api)
    async with start(), proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        before = time.time()
        api.put("endpointslices", pods(2))
        await until(lambda: endpoints(running["proxy-0"])["web-1"].state is EndpointState.DRAINING)
        left = endpoints(running["proxy-0"])["web-1"]
        assert before - 1 < left.draining_since < time.time() + 1
        assert left.serving
        api.remove("pods", "web-1")
        await until(lambda: set(endpoints(running["proxy-0"])) == {"web-2"})


async def test_a_pod_that_left_its_slices_drains_on_over_an_operators_restart(api, start, proxies):
    fill(api)
    async with start() as first, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        api.put("endpointslices", pods(2))
        await until(lambda: endpoints(running["proxy-0"])["web-1"].state is EndpointState.DRAINING)
        began = endpoints(running["proxy-0"])["web-1"].draining_since
        await end(first)
        async with start(instance="operator-1") as second:
            await until(lambda: running["proxy-0"].receiver.snapshot.epoch == 2)
            await until(lambda: condition(api, "Ready").get("status") == "True")
            assert endpoints(running["proxy-0"])["web-1"].state is EndpointState.DRAINING
            assert endpoints(running["proxy-0"])["web-1"].draining_since == began
            await until(lambda: second.watches.heard["Pod"])
            api.remove("pods", "web-1")
            await until(lambda: set(endpoints(running["proxy-0"])) == {"web-2"})


async def test_a_pod_that_leaves_its_slices_while_no_operator_runs_drains(api, start, proxies):
    fill(api)
    async with start() as first, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        await end(first)
        api.put("endpointslices", pods(2))
        before = time.time()
        async with start(instance="operator-1"):
            await until(lambda: running["proxy-0"].receiver.snapshot.epoch == 2)
            assert endpoints(running["proxy-0"])["web-1"].state is EndpointState.DRAINING
            assert before - 1 < endpoints(running["proxy-0"])["web-1"].draining_since < time.time() + 1


async def end(operator):
    operator.task.cancel()
    await asyncio.wait({operator.task})


async def test_a_pod_behind_no_route_costs_nothing(api, start, proxies):
    fill(api)
    async with start() as operator, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        await until(lambda: operator.watches.heard["Pod"])
        runs = operator.reconciler.runs
        for turn in range(5):
            api.put("pods", pod(7, restarts=turn))
        known = operator.store.pods
        await until(lambda: ("default", "web-7") in known and known["default", "web-7"].restarts == 4)
        assert operator.reconciler.runs == runs
        api.put("endpointslices", pods(1, 2, 7))
        await until(lambda: "web-7" in endpoints(running["proxy-0"]))
        assert endpoints(running["proxy-0"])["web-7"].started == 1000


async def test_a_pod_that_is_seen_after_its_slice_serves_from_then_on_by_its_name(
    api, start, proxies, monkeypatch
):
    monkeypatch.setattr(translated, "PATIENCE", 3600)
    fill(api, persistence={"bindTo": "Cohort"})
    async with start() as operator, proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        await until(lambda: operator.watches.heard["EndpointSlice"] and operator.watches.heard["Pod"])
        api.put("endpointslices", pods(1, 2, 7))
        await until(lambda: "u7" in operator.reconciler.translation.awaited)
        assert "web-7" not in endpoints(running["proxy-0"])
        api.put("pods", pod(7))
        await until(lambda: "web-7" in endpoints(running["proxy-0"]))
        assert endpoints(running["proxy-0"])["web-7"].cohort == "default/Deployment/web/7f9"


async def test_sessions_are_told_once_all_proxies_have_told_theirs(api, start, proxies):
    """Until then there is no number: autoscalers would take a 0 for one, and end pods."""
    fill(api)
    told = []
    on = EndpointSessions(endpoint="u1", pod="web-1", service="web", active=7, in_flight=0)
    scopes = {"default/shop/web": ScopeReport(endpoints=(on,))}
    report = AffinityReport(proxy="proxy-0", started=1.0, epoch=1, revision=1, scopes=scopes)
    async with start() as operator, proxies("proxy-0", report=lambda: told[0] if told else None):

        def shown():
            families = operator.health.registry().collect()
            return {
                sample.labels["pod"]: sample.value
                for family in families
                for sample in family.samples
                if family.name == "stickyroute_pod_sessions"
            }

        await until(lambda: condition(api, "Ready").get("status") == "True")
        assert shown() == {}
        told.append(report)
        operator.collector.poke()
        await until(lambda: shown() == {"web-1": 7, "web-2": 0})


@pytest.mark.parametrize("silent", [(), ("silent",)], ids=["all tell", "one never tells"])
async def test_ends_that_a_proxy_counted_before_the_operator_began_are_no_event(
    api, start, proxies, silent, monkeypatch
):
    """Of a proxy that comes into reach late, too; and one that never tells keeps nothing back."""
    monkeypatch.setattr(reporter, "COUNTS", 0.2)
    fill(api)
    counted = {"proxy-0": 60, "proxy-1": 40}

    def tells(name):
        def report():
            scopes = {"default/shop/web": ScopeReport(ended={BindingReason.IDLE_TIMEOUT: counted[name]})}
            return AffinityReport(proxy=name, started=1.0, epoch=1, revision=1, scopes=scopes)

        return report

    def shown():
        ended = api.get("stickyroutes", "shop").get("status", {}).get("sessions", {}).get("ended", [])
        return [one["sessions"] for one in ended]

    async with start() as operator, proxies(*silent), proxies("proxy-0", report=tells("proxy-0")):
        await until(lambda: shown() == [60])
        async with proxies("proxy-1", report=tells("proxy-1")):
            await until(lambda: shown() == [100])
            assert "SessionsEnded" not in events(api)
            counted["proxy-0"] += 2
            operator.collector.poke()
            await until(lambda: "SessionsEnded" in events(api))
            assert events(api)["SessionsEnded"]["message"] == "2 sessions ended: IdleTimeout"


async def test_a_short_grace_period_is_a_condition_while_it_is_so(api, start, proxies):
    fill(api)
    api.put("pods", pod(2, grace=30))
    async with start(), proxies("proxy-0"):
        await until(lambda: condition(api, "GracePeriodTooShort").get("status") == "True")
        assert "Deployment web" in condition(api, "GracePeriodTooShort")["message"]
        await until(lambda: "GracePeriodTooShort" in events(api))
        status = api.get("stickyroutes", "shop")["status"]
        api.put("stickyroutes", route(persistence={"drainTimeout": "20s"}) | {"status": status})
        await until(lambda: not condition(api, "GracePeriodTooShort"))
        assert condition(api, "Ready")["status"] == "True"


async def test_cookies_that_meet_are_told_to_the_younger_route(api, start, proxies):
    named = {"persistence": {"sessionName": "sid"}, "hosts": ["one.example.com"]}
    fill(api, **named)
    young = route("young", **named)
    young["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
    young["spec"]["rules"] = [
        {"name": "b", "matches": [{"path": {"value": "/b"}}], "backends": [{"service": "web", "port": 80}]}
    ]
    async with start(), proxies("proxy-0"):
        await until(lambda: condition(api, "Ready").get("status") == "True")
        api.put("stickyroutes", young)
        await until(lambda: condition(api, "CookieConflict", "young").get("status") == "True")
        assert "default/shop" in condition(api, "CookieConflict", "young")["message"]
        assert not condition(api, "CookieConflict")
        await until(lambda: "CookieConflict" in events(api))
        api.remove("stickyroutes", "shop")
        await until(lambda: not condition(api, "CookieConflict", "young"))


async def test_an_applications_cookie_of_our_name_is_told_until_the_policy_is_another(api, start, proxies):
    fill(api, persistence={"sessionName": "JSESSIONID"})
    clashes = {"cookie JSESSIONID": Clash(times=12, last=time.time())}
    scopes = {"default/shop/web": ScopeReport(clashes=clashes)}
    report = AffinityReport(proxy="proxy-0", started=1.0, epoch=1, revision=1, scopes=scopes)
    async with start(), proxies("proxy-0", report=lambda: report):
        await until(lambda: condition(api, "CookieConflict").get("status") == "True")
        message = condition(api, "CookieConflict")["message"]
        assert "cookie JSESSIONID" in message
        assert "so far: 12" in message
        await until(lambda: "CookieConflict" in events(api))
        assert condition(api, "Ready")["status"] == "True"
        status = api.get("stickyroutes", "shop")["status"]
        api.put("stickyroutes", route(persistence={"sessionName": "other"}) | {"status": status})
        await until(lambda: not condition(api, "CookieConflict"))
