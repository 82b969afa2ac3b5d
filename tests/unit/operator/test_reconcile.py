import asyncio

import pytest
from tests.unit.operator.builders import KEYS, rule

from stickyroute_api.reasons import EndpointState
from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Version
from stickyroute_operator.objects import Secret
from stickyroute_operator.reconcile import Acked, Carried, Reconciler
from stickyroute_operator.store import PODS, ROUTES, SERVICES, SLICES, Store


class Published(list):
    def publish(self, snapshot):
        self.append(snapshot)

    @property
    def states(self):
        return {one.pod: one.state for one in self[-1].endpoints["default/web:80"]}


class Cluster:
    def __init__(self):
        self.now = 100.0
        self.published = Published()
        self.done = 0
        self.store = Store(lambda _kind: self.reconciler.poke())
        self.reconciler = Reconciler(
            self.store, "stickyroute", self.published, self._count, clock=lambda: self.now
        )

    def _count(self):
        self.done += 1

    def fill(self, *pods):
        for kind in (ROUTES, SLICES, PODS):
            self.store.replace_all(kind, [])
        self.route("shop")
        self.store.replace_all(SERVICES, [{"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}])
        self.pods(*pods)

    def route(self, name, **spec):
        spec = {"className": "stickyroute", "hosts": [f"{name}.example.com"], "rules": [rule()]} | spec
        self.store.upsert(ROUTES, {"metadata": {"name": name, "generation": 1}, "spec": spec})

    def pods(self, *pods, uid="u{}"):
        self.store.upsert(
            SLICES,
            {
                "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
                "ports": [{"port": 8080}],
                "endpoints": [
                    {
                        "addresses": [f"10.0.0.{pod}"],
                        "targetRef": {"kind": "Pod", "name": f"web-{pod}", "uid": uid.format(pod)},
                    }
                    for pod in pods
                ],
            },
        )


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def ready(cluster):
    cluster.fill(1, 2)
    cluster.reconciler.take_keys(KEYS)
    cluster.reconciler.take_epoch(7)
    cluster.reconciler.step()
    return cluster


def test_the_first_snapshot(ready):
    assert [snapshot.version for snapshot in ready.published] == [(7, 1)]
    assert set(ready.published[0].routes) == {"default/shop"}
    assert ready.published.states == {"web-1": EndpointState.JOINING, "web-2": EndpointState.JOINING}


def test_settings_that_change_are_published_and_zones_stay(ready):
    ready.reconciler.take_zones({"proxy-0": "a"})
    ready.reconciler.take_settings(Settings(proxy_protocol=True))
    ready.reconciler.step()
    assert ready.published[-1].settings == Settings(proxy_protocol=True, zones={"proxy-0": "a"})


def test_nothing_new_is_not_published(ready):
    ready.reconciler.acknowledged((Acked("a", True),))
    ready.reconciler.step()
    ready.reconciler.step()
    assert len(ready.published) == 1


def test_endpoints_serve_once_every_proxy_that_is_ready_knows_them(ready):
    ready.reconciler.acknowledged((Acked("a", True, Version(7, 1)), Acked("b", True), Acked("c", False)))
    ready.reconciler.step()
    assert len(ready.published) == 1
    ready.reconciler.acknowledged(
        (Acked("a", True, Version(7, 1)), Acked("b", True, Version(7, 1)), Acked("c", False))
    )
    ready.reconciler.step()
    assert ready.published.states == {"web-1": EndpointState.SERVING, "web-2": EndpointState.SERVING}
    ready.pods(1, 2, 3)
    ready.reconciler.step()
    assert ready.published.states["web-3"] is EndpointState.JOINING
    assert ready.published.states["web-1"] is EndpointState.SERVING
    ready.now += 2
    ready.reconciler.step()
    assert ready.published.states["web-3"] is EndpointState.SERVING
    assert [snapshot.revision for snapshot in ready.published] == [1, 2, 3, 4]


def test_routes_remember_the_snapshot_of_their_last_change(ready):
    ready.reconciler.acknowledged(())
    ready.reconciler.step()
    first = ready.reconciler.carried["default", "shop"]
    assert first == Carried(Version(7, 1), Version(7, 2))
    ready.route("blog", rules=[rule(service="none")])
    ready.reconciler.step()
    assert ready.reconciler.carried["default", "shop"] == first
    assert ready.reconciler.carried["default", "blog"] == Carried(Version(7, 3), Version(7, 3))
    ready.pods(1)
    ready.reconciler.step()
    assert ready.reconciler.carried["default", "shop"] == Carried(Version(7, 1), Version(7, 4))
    ready.route("shop", hosts=["other.example.com"])
    ready.reconciler.step()
    assert ready.reconciler.carried["default", "shop"] == Carried(Version(7, 5), Version(7, 5))


def test_a_higher_epoch_publishes_everything_anew(ready):
    ready.reconciler.take_epoch(9)
    ready.reconciler.step()
    assert ready.published[-1].version == (9, 1)
    assert ready.reconciler.carried["default", "shop"] == Carried(Version(9, 1), Version(9, 1))


def test_routes_of_other_namespaces_may_be_none_of_ours(cluster):
    cluster.reconciler._is_ours = lambda key: key[0] == "elsewhere"
    cluster.fill(1)
    cluster.reconciler.take_keys(KEYS)
    cluster.reconciler.take_epoch(1)
    cluster.reconciler.step()
    assert cluster.published[-1].routes == {}


def test_a_defect_is_logged_and_the_next_change_is_tried(ready, caplog):
    published, ready.reconciler._publisher = ready.reconciler._publisher, None
    ready.route("blog")
    ready.reconciler.step()
    assert "reconciliation failed" in caplog.text
    ready.reconciler._publisher = published
    ready.reconciler.step()
    assert set(ready.published[-1].routes) == {"default/shop", "default/blog"}


def test_zones_are_sent_when_they_change(ready):
    ready.reconciler.take_zones({"proxy-0": "eu-1"})
    ready.reconciler.step()
    assert ready.published[-1].settings.zones == {"proxy-0": "eu-1"}
    count = len(ready.published)
    ready.reconciler.take_zones({"proxy-0": "eu-1"})
    ready.reconciler.step()
    assert len(ready.published) == count


class Named:
    def __init__(self):
        self.referents, self.wanted = {}, frozenset()

    def want(self, references):
        self.wanted = frozenset(references)


def test_nothing_is_published_before_what_routes_name_was_read_for_the_first_time(cluster):
    """After a restart the proxies serve certificates that the operator has not read yet."""
    named = cluster.reconciler._named = Named()
    cluster.fill(1)
    cluster.route("shop", tls={"secretName": "shop-tls"})
    cluster.reconciler.take_keys(KEYS)
    cluster.reconciler.take_epoch(1)
    cluster.reconciler.step()
    (reference,) = named.wanted
    assert str(reference) == "Secret default/shop-tls"
    assert not cluster.published
    named.referents[reference] = Secret("Opaque")
    cluster.reconciler.step()
    assert set(cluster.published[-1].routes) == {"default/shop"}
    # From now on a route that names something new holds up no other.
    cluster.route("blog", tls={"secretName": "blog-tls"})
    cluster.route("news")
    cluster.reconciler.step()
    assert set(cluster.published[-1].routes) == {"default/shop", "default/news"}
    assert len(named.wanted) == 2


@pytest.mark.parametrize("last", [ROUTES, SERVICES, SLICES, PODS])
async def test_nothing_is_published_before_everything_was_listed(last):
    cluster = Cluster()
    task = asyncio.create_task(cluster.reconciler.run())
    cluster.reconciler.take_keys(KEYS)
    cluster.reconciler.take_epoch(1)
    cluster.route("shop")
    for kind in {ROUTES, SERVICES, SLICES, PODS} - {last}:
        cluster.store.replace_all(kind, [])
    for _ in range(5):
        await asyncio.sleep(0)
    assert not cluster.published
    cluster.store.replace_all(last, [])
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(cluster.published) == 1
    task.cancel()


async def test_the_first_change_goes_through_at_once_and_the_rest_is_gathered():
    cluster = Cluster()
    cluster.fill(1)
    cluster.reconciler.take_keys(KEYS)
    cluster.reconciler.take_epoch(1)
    task = asyncio.create_task(cluster.reconciler.run())
    await asyncio.sleep(0.01)
    assert len(cluster.published) == 1
    for pod in range(2, 12):
        cluster.pods(*range(1, pod))
        await asyncio.sleep(0)
    assert len(cluster.published) == 1
    await asyncio.sleep(0.15)
    assert len(cluster.published) == 2
    assert len(cluster.published.states) == 10
    task.cancel()


async def test_a_drain_that_is_over_is_noticed_though_nothing_else_happens():
    cluster = Cluster()
    cluster.fill(1, 2)
    cluster.route("shop", persistence={"drainTimeout": "50ms"})
    cluster.store.upsert(PODS, {"metadata": {"name": "web-2", "uid": "u2"}})
    cluster.reconciler.take_keys(KEYS)
    cluster.reconciler.take_epoch(1)
    cluster.reconciler.step()
    cluster.reconciler.acknowledged(())
    cluster.pods(1)
    task = asyncio.create_task(cluster.reconciler.run())
    await asyncio.sleep(0.02)
    assert cluster.published.states["web-2"] is EndpointState.DRAINING
    await asyncio.sleep(0.3)
    assert set(cluster.published.states) == {"web-1"}
    task.cancel()
