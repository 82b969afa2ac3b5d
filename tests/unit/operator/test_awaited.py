"""A slice may be seen before its pods, which are awaited where bindings name what only they tell."""

import asyncio
from datetime import UTC, datetime

import pytest
from tests.unit.operator.builders import KEYS, endpoint, pieces, pod, route, rule, service, state
from tests.unit.operator.test_reconcile import Cluster
from tests.unit.proxy.fleets import Client, Proxy

from stickyroute_api.reasons import BindingReason
from stickyroute_operator.reconcile import Acked
from stickyroute_operator.store import PODS
from stickyroute_operator.translate import endpoints, translate
from stickyroute_operator.translate.endpoints import PATIENCE

WEB = "default/web:80"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OWNERS = {"Pod": "StatefulSet", "StatefulPod": "StatefulSet", "Cohort": "DaemonSet"}
BY_NAME = ["StatefulPod", "Cohort"]


class Fleet(Cluster):
    """An operator with one proxy, which takes each snapshot at once."""

    def __init__(self, bind_to, **persistence):
        super().__init__()
        self.reconciler._now = lambda: datetime.fromtimestamp(NOW.timestamp() + self.now, UTC)
        self.owner = {"kind": OWNERS[bind_to], "name": "web", "controller": True}
        self.proxy = None
        self.fill()
        self.route("shop", persistence={"bindTo": bind_to, "sessionName": "sr"} | persistence)
        self.reconciler.take_keys(KEYS)
        self.reconciler.take_epoch(1)

    def pod(self, number, uid=""):
        labels = {"controller-revision-hash": "v1"}
        meta = {"name": f"web-{number}", "uid": uid or f"u{number}", "labels": labels}
        self.store.upsert(PODS, {"metadata": {**meta, "ownerReferences": [self.owner]}})

    def step(self, seconds=0.1):
        """Whom the proxy has then."""
        self.now += seconds
        self.reconciler.step()
        told = self.reconciler.translation
        anew = translate(told.state)
        assert (anew.endpoints, anew.awaited, anew.until) == (told.endpoints, told.awaited, told.until)
        newest = self.published[-1]
        if self.proxy is None:
            self.proxy = Proxy(newest)
        elif self.proxy.table.version != newest.version:
            self.proxy.apply(newest)
        self.reconciler.acknowledged((Acked("proxy-1", True, newest.version),))
        return {one.pod for one in self.proxy.table.endpoints()}

    def reasons(self):
        return set(self.proxy.scope("default/shop/web").decisions())


@pytest.mark.parametrize("others", [(), (2, 3)], ids=["alone", "beside others"])
@pytest.mark.parametrize("bind_to", OWNERS)
def test_no_session_moves_when_a_pod_is_seen_after_its_slice(bind_to, others):
    fleet = Fleet(bind_to)
    for number in others:
        fleet.pod(number)
    fleet.pods(*others)
    fleet.step()
    fleet.pods(1, *others)
    fleet.step()
    fleet.step()
    clients = [Client() for _ in range(20)]
    for client in clients:
        client.ask(fleet.proxy)
    fleet.pod(1)
    assert "web-1" in fleet.step()
    for client in clients * 2:
        client.ask(fleet.proxy)
    assert fleet.reasons() <= {BindingReason.NEW, BindingReason.BOUND, BindingReason.NO_ENDPOINT}


def test_a_stateful_sets_next_pod_has_its_sessions_though_its_slice_is_seen_first():
    fleet = Fleet("StatefulPod")
    fleet.pod(1)
    fleet.pods(1)
    fleet.step()
    client = Client()
    client.ask(fleet.proxy)
    fleet.pods(1, uid="another")
    assert fleet.step() == set()
    assert client.ask(fleet.proxy).reason is BindingReason.NO_ENDPOINT
    fleet.pod(1, uid="another")
    assert fleet.step() == {"web-1"}
    again = client.ask(fleet.proxy)
    assert (again.endpoint.id, again.reason) == ("another", BindingReason.BOUND)


def test_a_pod_that_is_never_seen_is_not_awaited_for_ever():
    fleet = Fleet("Cohort")
    fleet.pods(1)
    assert fleet.step() == set()
    fleet.pods(1, 2)
    assert fleet.step(PATIENCE - 0.5) == set()
    assert fleet.step(0.6) == {"web-1"}
    assert fleet.step(PATIENCE) == {"web-1", "web-2"}
    assert fleet.reconciler.translation.awaited == {}


async def test_the_end_of_patience_is_noticed_though_nothing_else_happens(monkeypatch):
    monkeypatch.setattr(endpoints, "PATIENCE", 0.05)
    fleet = Fleet("StatefulPod")
    fleet.reconciler._now = lambda: datetime.now(UTC)
    fleet.pods(1)
    fleet.step()
    fleet.reconciler.acknowledged(())
    task = asyncio.create_task(fleet.reconciler.run())
    await asyncio.sleep(0.3)
    assert set(fleet.published.states) == {"web-1"}
    task.cancel()


def test_a_pod_behind_no_endpoint_yet_is_heeded():
    fleet = Fleet("StatefulPod")
    fleet.pods(1)
    fleet.step()
    assert fleet.reconciler.heeds(("default", "web-1"))


def test_what_was_published_stays_when_its_pod_is_gone():
    fleet = Fleet("StatefulPod")
    fleet.pod(1)
    fleet.pods(1)
    fleet.step()
    fleet.store.delete(PODS, {"metadata": {"name": "web-1"}})
    assert fleet.step() == {"web-1"}


NAMELESS = {"addresses": ["10.0.0.1"]}
ELSE = {"addresses": ["10.0.0.1"], "targetRef": {"kind": "VM", "name": "vm-1", "uid": "uid-vm-1"}}
PODS_UID = {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "uid": "uid-web-1"}}
NAMED = endpoint("web-1", "10.0.0.1")


def by(bind_to, name="shop", **more):
    return route(name, hosts=[f"{name}.example.com"], persistence={"bindTo": bind_to}, **more)


@pytest.mark.parametrize(
    ("routes", "entry", "pods", "more", "waits"),
    [
        ([by("Pod")], NAMED, (), {}, False),
        ([by("StatefulPod")], NAMED, (), {}, True),
        ([by("Cohort")], NAMED, (), {}, True),
        ([by("Cohort")], NAMED, (pod("web-1"),), {}, False),
        ([by("Cohort")], NAMED, (pod("web-1", uid="uid-before"),), {}, True),
        ([by("Cohort")], NAMED, (), {"awaited": None}, False),
        ([by("Cohort")], NAMED, (), {"awaited": {"uid-web-1": NOW.timestamp() - PATIENCE}}, False),
        ([by("Cohort")], NAMELESS, (), {}, False),
        ([by("Cohort")], ELSE, (), {}, False),
        ([by("Cohort")], PODS_UID, (), {}, False),
        ([by("Pod"), by("Cohort", "blog", rules=[rule(service="blog")])], NAMED, (), {}, False),
        ([by("Pod"), by("Cohort", "blog")], NAMED, (), {}, True),
    ],
    ids=[
        "bound to the pod",
        "to its name",
        "to its version",
        "seen",
        "another of that name was",
        "none on its way",
        "long enough",
        "no pod named",
        "something else named",
        "a pod without a name",
        "another Service's",
        "a Service of both",
    ],
)
def test_who_waits(routes, entry, pods, more, waits):
    given = {"awaited": {}, "now": NOW} | more
    told = translate(state(*routes, service(), pieces(entry), *pods, **given))
    assert bool(told.endpoints[WEB]) is not waits
    assert told.awaited == ({"uid-web-1": NOW.timestamp()} if waits else {})
    assert told.until == (NOW.timestamp() + PATIENCE if waits else float("inf"))
