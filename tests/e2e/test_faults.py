"""Operator and API server die unnoticed by the data path; what changes meanwhile is applied soon after."""

import time

import pytest
from tests.e2e import faults, kube, manifests
from tests.e2e.load import amnesia, failures, moves, summary

WITHIN = 10.0
"""Seconds from the moment that the API server shows a change to every proxy serving it."""

STEADY = "steady.stickyroute.test"


@pytest.fixture(scope="module")
def steady(application):
    """A route to hand-written endpoints, so that a change of them shows in the API at once."""
    namespace = application.namespace
    kube.apply(
        namespace,
        manifests.service("steady", 8000, selector=False),
        manifests.route("steady", STEADY, ["steady"], persistence={"type": "None"}),
        points_to(application, 0),
    )
    kube.wait_ready(namespace, "steady")
    return application


def points_to(application, number):
    """The endpoints of `steady`: the application's n-th pod."""
    pod = application.pods()[sorted(application.pods())[number]]
    meta = pod["metadata"]
    return manifests.endpoint_slice(
        "steady-1", "steady", pod["status"]["podIP"], 8000, uid=meta["uid"], pod_name=meta["name"]
    )


def applied(application, route, number):
    """Seconds from a new route and changed endpoints being in the API to every proxy serving by both."""
    host = f"{route}.stickyroute.test"
    wanted = ("200", sorted(application.pods())[number])
    kube.apply(
        application.namespace,
        manifests.route(route, host, ["steady"], persistence={"type": "None"}),
        points_to(application, number),
    )
    shown = time.monotonic()
    for name in (host, STEADY):
        kube.until(
            f"every proxy serves {name} from {wanted[1]}",
            lambda name=name: set(application.release.ask_each_proxy(name).values()) == {wanted},
            60,
            pause=0.05,
        )
    return time.monotonic() - shown


def unnoticed(records):
    assert failures(records) == []
    assert moves(records) == []
    assert amnesia(records) == []


async def test_a_killed_operator_is_not_noticed(steady, dungeon):
    release = steady.release
    kube.until("the killer", lambda: kube.is_ready(kube.get("-n", dungeon, "pod", "killer")))
    ((name, pod),) = release.pods("operator").items()

    def restarts():
        return release.pods("operator")[name]["status"]["containerStatuses"][0]["restartCount"]

    before = restarts()

    async def kill():
        print(await kube.off(faults.kill9, dungeon, pod["metadata"]["uid"], "stickyroute-operator"))
        await kube.off(kube.until, "a restart", lambda: restarts() > before and release.ready("operator"), 90)
        return await kube.off(applied, steady, "after-kill", 1)

    async with steady.crowd(60) as crowd:
        await crowd.each(2)
        took = await crowd.during(100, kill(), at_least=20)
        print(f"\n{summary(crowd.records)}; changes served by every proxy after {took:.1f} s")
        unnoticed(crowd.records)
    assert took < WITHIN


async def test_a_killed_api_server_is_not_noticed(steady):
    release = steady.release

    async def kill():
        await kube.off(faults.api_away, 30)
        return await kube.off(applied, steady, "after-outage", 2)

    async with steady.crowd(60) as crowd:
        await crowd.each(2)
        took = await crowd.during(100, kill(), at_least=45)
        print(f"\n{summary(crowd.records)}; changes served by every proxy after {took:.1f} s")
        unnoticed(crowd.records)
    assert took < WITHIN
    kube.until("the operator Ready", lambda: release.ready("operator"), 60)
