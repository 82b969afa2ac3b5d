import copy
from random import Random

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stickyroute_api.reasons import BindingReason
from stickyroute_api.settings import Settings
from stickyroute_cli import embedded, tokenkeys
from stickyroute_cli.checks import CHECKS, judged
from stickyroute_cli.embedded import Embedded
from stickyroute_cli.manifests import Folder

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: web, creationTimestamp: 2026-11-23T12:00:00Z}
spec: {type: ClusterIP, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8000}]
endpoints:
- addresses: [127.0.0.1]
  conditions: {ready: true, serving: true, terminating: false}
  targetRef: {kind: Pod, name: web-1, uid: uid-1}
---
apiVersion: stickyroute.dev/v1alpha1
kind: StickyRoute
metadata: {name: shop, generation: 1}
spec:
  hosts: [shop.example.com]
  rules:
  - name: app
    matches: [{path: {type: PathPrefix, value: /}, method: GET}]
    backends: [{service: web, port: http, weight: 1}]
  persistence: {type: Cookie, idleTimeout: 30m}
"""


class Plane:
    table = None

    def apply(self, table):
        self.table = table


def start():
    plane = Plane()
    return plane, Embedded(
        plane, class_name="stickyroute", keys=tokenkeys.fresh(), random=Random(1), started=1000.0
    )


def read(folder, text):
    return folder.take({"shop.yaml": text.encode()}).manifests


def conditions(what):
    return {one.type.value: one.status for one in what.statuses["default/shop"].conditions}


def test_a_folder_becomes_a_table_and_a_status():
    plane, shop = start()
    assert shop.look(1000.0) == []
    assert shop.take(read(Folder(CHECKS, judged), SHOP), 1000.0)
    assert str(plane.table.version) == "1.1"
    rule = plane.table.find(b"shop.example.com", b"/", b"", b"GET", [])
    assert (rule.route, rule.name) == ("default/shop", "app")
    assert [news.event.reason for news in shop.look(1001.0)] == ["Programmed"]
    assert set(conditions(shop).values()) == {"True"}
    assert shop.statuses["default/shop"].endpoints[0].pod == "web-1"
    assert shop.look(1002.0) == []
    rule.scope.end(BindingReason.IDLE_TIMEOUT)
    assert [news.event.message for news in shop.look(1003.0)] == ["1 session ended: IdleTimeout"]
    assert shop.look(1004.0) == []


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("rebalance.sessionsPerMinute", "rebalance: {sessionsPerMinute: 60}"),
        ("podDeletionCost", "podDeletionCost: true"),
    ],
)
def test_what_needs_an_operator_is_refused_by_name(field, given):
    _, shop = start()
    asks = SHOP.replace("idleTimeout: 30m}", f"idleTimeout: 30m, {given}}}")
    shop.take(read(Folder(CHECKS, judged), asks), 1000.0)
    (news,) = shop.look(1001.0)
    assert (news.route, news.event.reason) == ("default/shop", "NotAccepted")
    accepted = shop.statuses["default/shop"].conditions[0]
    assert (accepted.type, accepted.status, accepted.reason) == ("Accepted", "False", "UnsupportedValue")
    assert f"spec.persistence.{field}: " in accepted.message
    assert "stickyroute serve" in accepted.message
    assert "remove it" in accepted.message


def test_what_did_not_change_is_not_applied_again():
    plane, shop = start()
    folder = Folder(CHECKS, judged)
    shop.take(read(folder, SHOP), 1000.0)
    table = plane.table
    assert not shop.take(read(folder, f"# a remark\n{SHOP}"), 1001.0)
    assert plane.table is table
    assert shop.take(read(folder, SHOP.replace("web-1, uid: uid-1", "web-2, uid: uid-2")), 1002.0)
    assert str(plane.table.version) == "1.2"


def test_a_table_that_cannot_be_built_leaves_the_last_one_and_is_told(monkeypatch):
    plane, shop = start()
    folder = Folder(CHECKS, judged)
    shop.take(read(folder, SHOP), 1000.0)
    shop.look(1000.0)
    table = plane.table

    def refuse(*_):
        raise ValueError("default/shop: rules[0]: not possible")

    with monkeypatch.context() as broken:
        broken.setattr(embedded, "build", refuse)
        shop.take(read(folder, SHOP.replace("30m", "31m")), 1001.0)
    (news,) = shop.look(1001.0)
    assert news.event.reason == "ProxyRejectedSnapshot"
    assert "rules[0]: not possible" in news.event.message
    assert conditions(shop)["Programmed"] == "False"
    assert plane.table is table
    shop.take(read(folder, SHOP), 1002.0)
    assert [news.event.reason for news in shop.look(1002.0)] == ["Programmed"]
    assert plane.table is not table


def test_routes_of_another_class_are_left_out_and_named():
    _, shop = start()
    shop.take(read(Folder(CHECKS, judged), SHOP.replace("hosts:", "className: other\n  hosts:")), 1000.0)
    assert shop.foreign() == ["default/shop"]
    shop.look(1000.0)
    assert shop.statuses == {}


DOCUMENTS = list(yaml.load_all(SHOP, yaml.BaseLoader))
JUNK = st.sampled_from(
    [None, True, -1, 0, 1.5, 70000, "", "x", "é\n", "127.0.0.1", [], [None], [[]], {}, {"a": None}, "9" * 400]
)


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(below, (*path, key))


PLACES = [(index, path) for index, document in enumerate(DOCUMENTS) for path in places(document) if path]


TARGET = next(place for place in PLACES if place[1][-2:] == ("targetRef", "name"))


@settings(deadline=None)
@example([(TARGET, "9" * 400)])
@example([((TARGET[0], (*TARGET[1][:-1], "uid")), "9" * 400), (TARGET, "")])
@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3))
def test_no_content_of_any_field_raises(changes):
    documents = copy.deepcopy(list(yaml.safe_load_all(SHOP)))
    for (index, path), junk in changes:
        place = documents[index]
        try:
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = junk
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took the place away
    _, shop = start()
    folder = Folder(CHECKS, judged)
    for text in (SHOP, yaml.safe_dump_all(documents), SHOP):
        contents = folder.take({"shop.yaml": text.encode()})
        shop.take(contents.manifests, 1000.0)
        shop.look(1000.0)
    fresh = Folder(CHECKS, judged)
    _, shop = start()
    shop.take(read(fresh, yaml.safe_dump_all(documents)), 1000.0)
    shop.look(1000.0)


def test_settings_are_in_the_snapshot():
    plane = Plane()
    given = Settings(proxy_protocol=True)
    served = Embedded(
        plane,
        class_name="stickyroute",
        keys=tokenkeys.fresh(),
        random=Random(1),
        started=1000.0,
        settings=given,
    )
    served.take(read(Folder(CHECKS, judged), SHOP), 1000.0)
    assert plane.table.snapshot.settings == given


PODS = """
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  uid: uid-1
  labels: {controller-revision-hash: v1}
  ownerReferences: [{kind: StatefulSet, name: web, controller: true}]
spec: {terminationGracePeriodSeconds: 10}
status: {containerStatuses: [{restartCount: RESTARTS, state: {running: {startedAt: "2026-11-23T12:00:00Z"}}}]}
"""


def test_pods_are_read_where_they_are_given():
    _, shop = start()
    folder = Folder(CHECKS, judged)
    text = SHOP.replace("idleTimeout: 30m", "drainTimeout: 1m") + PODS
    shop.take(read(folder, text.replace("RESTARTS", "0")), 1000.0)
    shop.look(1000.0)
    (endpoint,) = shop.snapshot.endpoints["default/web:80"]
    assert (endpoint.stable, endpoint.cohort) == ("default/web-1", "default/StatefulSet/web/v1")
    assert conditions(shop)["GracePeriodTooShort"] == "True"
    shop.take(read(folder, text.replace("RESTARTS", "1")), 1001.0)
    assert [news.event.reason for news in shop.look(1001.0)] == ["ContainerRestarted"]


def test_a_bad_pod_is_named():
    problems = Folder(CHECKS, judged).take({"a.yaml": PODS.replace("10", "soon").encode()}).problems
    assert "spec.terminationGracePeriodSeconds" in str(problems[0])
