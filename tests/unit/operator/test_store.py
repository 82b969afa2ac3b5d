import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_operator.store import PODS, ROUTES, SERVICES, SLICES, Store


def manifest(name="web", version=1, namespace="default", **spec):
    return {
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": str(version)},
        "spec": spec,
    }


@pytest.fixture
def changes():
    return []


@pytest.fixture
def store(changes):
    return Store(changes.append)


def names(store):
    return sorted(name for _, name in store.services)


def test_nothing_is_complete_before_every_kind_was_listed(store):
    for kind in (ROUTES, SERVICES, PODS):
        store.replace_all(kind, [])
    store.upsert(SLICES, manifest())
    assert not store.listed
    store.replace_all(SLICES, [])
    assert store.listed


def test_nothing_is_complete_before_every_watched_namespace_was_listed(changes):
    store = Store(changes.append, namespaces=("red", "blue"))
    for kind in (ROUTES, SERVICES, PODS, SLICES):
        store.replace_all(kind, [], 7, "blue")
    assert not store.listed
    for kind in (ROUTES, SERVICES, PODS, SLICES):
        assert not store.listed
        store.replace_all(kind, [], 7, "red")
    assert store.listed
    assert changes[-1] == SLICES


def test_only_news_is_told(store, changes):
    store.upsert(SERVICES, manifest(version=1))
    store.upsert(SERVICES, manifest(version=2))
    store.replace_all(SERVICES, [manifest(version=2)], 2)
    assert changes == [SERVICES, SERVICES]  # the object, and that the list is complete
    assert store.replace_all(SERVICES, [manifest(version=2)], 3) is False
    store.upsert(SERVICES, manifest(version=4, type="ExternalName"))
    assert len(changes) == 3


def test_an_unchanged_object_keeps_its_identity(store):
    store.replace_all(SERVICES, [manifest(version=1)], 1)
    known = store.services["default", "web"]
    store.upsert(SERVICES, manifest(version=2))
    store.replace_all(SERVICES, [manifest(version=2)], 3)
    assert store.services["default", "web"] is known


def test_a_route_is_not_news_for_its_status(store, changes):
    store.upsert(ROUTES, manifest(version=1))
    store.upsert(ROUTES, manifest(version=2) | {"status": {"hosts": "*"}})
    assert changes == [ROUTES]


def test_a_list_removes_what_a_watch_forgot(store):
    store.replace_all(SERVICES, [manifest("a", 1), manifest("b", 2)], 2)
    store.replace_all(SERVICES, [manifest("b", 2)], 5)
    assert names(store) == ["b"]


def test_a_list_older_than_the_watch_brings_nothing_back(store):
    store.replace_all(SERVICES, [manifest("a", 1)], 1)
    store.upsert(SERVICES, manifest("b", 12))
    store.delete(SERVICES, manifest("a", 11))
    store.replace_all(SERVICES, [manifest("a", 1)], 10)
    assert names(store) == ["b"]
    store.replace_all(SERVICES, [manifest("b", 12)], 20)
    assert names(store) == ["b"]


def test_a_watch_behind_the_list_changes_nothing(store):
    store.replace_all(SERVICES, [manifest("a", 9, type="ExternalName")], 10)
    store.upsert(SERVICES, manifest("a", 5))
    store.upsert(SERVICES, manifest("gone", 6))
    store.delete(SERVICES, manifest("a", 7))
    assert names(store) == ["a"]
    assert store.services["default", "a"].type == "ExternalName"


def test_a_restored_cluster_counts_from_a_lower_version(store):
    store.replace_all(SERVICES, [manifest("a", 900)], 1000)
    store.replace_all(SERVICES, [manifest("b", 5)], 10)
    store.replace_all(SERVICES, [manifest("b", 5)], 10)
    store.upsert(SERVICES, manifest("c", 11))
    assert "c" in names(store)
    assert "b" in names(store)


def test_a_list_of_one_namespace_leaves_the_others(store):
    store.replace_all(SERVICES, [manifest("a", 1, "one")], 1, "one")
    store.replace_all(SERVICES, [manifest("b", 2, "two")], 2, "two")
    store.replace_all(SERVICES, [], 3, "one")
    assert names(store) == ["b"]


def test_a_malformed_object_is_left_out(store, changes, caplog):
    store.upsert(SERVICES, {"metadata": {}})
    store.replace_all(
        SERVICES, [manifest("a"), {"spec": 1}, {"metadata": {"name": "x"}, "spec": {"ports": 1}}]
    )
    assert names(store) == ["a"]
    assert "left out" in caplog.text


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.data(),
)
def test_the_end_is_the_cluster_whatever_the_delays(history, data):
    """A watch that is late or early, and LISTs in between, tell one history."""
    cluster, snapshots = {}, [{}]
    events = []
    for version, (name, exists) in enumerate(history, 1):
        if exists:
            cluster[name] = manifest(name, version, type=f"t{version}")
            events.append(("MODIFIED", cluster[name]))
        elif name in cluster:
            del cluster[name]
            events.append(("DELETED", manifest(name, version)))
        snapshots.append(dict(cluster))
    store, told = Store(), 0
    for _ in range(data.draw(st.integers(0, 6))):
        taken_at = data.draw(st.integers(0, len(history)))
        told_until = data.draw(st.integers(told, len(events)))
        for event, body in events[told:told_until]:
            store.take(SERVICES, event, body)
        told = told_until
        store.replace_all(SERVICES, list(snapshots[taken_at].values()), taken_at or "0")
    for event, body in events[told:]:
        store.take(SERVICES, event, body)
    store.replace_all(SERVICES, list(cluster.values()), len(history))
    found = {name: service.type for (_, name), service in store.services.items()}
    assert found == {name: body["spec"]["type"] for name, body in cluster.items()}


def test_what_nothing_depends_on_is_kept_but_no_news(changes):
    store = Store(changes.append, heeds=lambda kind, key: (kind, key) != (PODS, ("default", "job")))
    for name in ("job", "web"):
        store.upsert(PODS, manifest(name, 1))
        store.delete(PODS, manifest(name, 2))
        store.upsert(PODS, manifest(name, 3))
    assert changes == [PODS] * 3
    assert set(store.pods) == {("default", "job"), ("default", "web")}
