import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.builders import endpoint, pieces, route, rule, service, state

from stickyroute_api.reasons import ConditionReason, EndpointState
from stickyroute_api.snapshot import Override
from stickyroute_operator.objects import Service, ServicePort
from stickyroute_operator.pods import Pod
from stickyroute_operator.translate import routes, translate

WEB = (service(), pieces(endpoint("web-1", "10.0.0.1"), endpoint("web-2", "10.0.0.2")))

BROKEN = (
    {"rules": []},
    {"rules": [rule(port="")]},
    {"rules": [rule(service="UPPER")]},
    {"rules": [rule(timeouts={"request": "soon"})]},
    {"rules": [rule()], "bogus": 1},
    {"rules": [rule()], "hosts": ["a b"]},
    {"rules": [rule()], "persistence": {"sessionName": "a b"}},
    {"rules": [rule()], "persistence": {"type": "None", "failover": {"hold": "30s"}}},
    {"rules": [rule()], "healthCheck": {}},
    {"rules": "all"},
    {"rules": [rule(path="cart")]},
    {"hosts": ["shop.example.com"], "rules": [{"name": "app"}]},
)

spec_parts = st.fixed_dictionaries(
    {
        "hosts": st.lists(
            st.sampled_from(["a.example.com", "b.example.com", "*.example.com"]), unique=True, max_size=2
        ),
        "rules": st.lists(st.sampled_from(["/", "/a", "/a/", "/b"]), min_size=1, max_size=3).map(
            lambda paths: [rule(name=f"r{number}", path=path) for number, path in enumerate(paths)]
        ),
    }
)
good_routes = st.lists(
    st.tuples(
        spec_parts,
        st.sampled_from(["default", "other"]),
        st.integers(min_value=0, max_value=3),
    ),
    max_size=5,
).map(
    lambda drawn: [
        route(f"r{number}", namespace, float(created), **spec)
        for number, (spec, namespace, created) in enumerate(drawn)
    ]
)


@pytest.mark.parametrize("spec", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_route_is_refused_with_the_field_in_the_message(spec):
    verdict = translate(state(route(**spec), *WEB)).verdicts["default", "shop"]
    assert not verdict.accepted.status
    assert verdict.accepted.reason in {ConditionReason.INVALID, ConditionReason.UNSUPPORTED_VALUE}
    assert "spec." in verdict.accepted.message


@pytest.mark.parametrize("spec", [None, [], "text", 3, {}, {"rules": None}, {"rules": [None]}])
def test_no_spec_raises(spec):
    from dataclasses import replace

    broken = replace(route(), spec=spec)
    translation = translate(state(broken, *WEB, fleet="stickyroute"))
    assert translation.routes == {}
    assert not translation.verdicts["default", "shop"].accepted.status


@settings(max_examples=60, deadline=None)
@given(good_routes, st.sampled_from(BROKEN), st.integers(min_value=0, max_value=9))
def test_a_broken_route_changes_nothing_for_the_others(routes, spec, created):
    alone = translate(state(*routes, *WEB))
    beside = translate(state(*routes, route("broken", "default", float(created), **spec), *WEB))
    assert beside.routes == alone.routes
    assert {key: verdict for key, verdict in beside.verdicts.items() if key[1] != "broken"} == alone.verdicts


@settings(max_examples=60, deadline=None)
@given(good_routes, st.randoms(use_true_random=False))
def test_the_order_of_objects_does_not_matter(routes, shuffler):
    objects = [*routes, *WEB, pieces(endpoint("web-3", "10.0.0.3"), name="web-2")]
    first = translate(state(*objects))
    shuffler.shuffle(objects)
    second = translate(state(*objects))
    assert first.snapshot(1, 1) == second.snapshot(1, 1)
    assert first.verdicts == second.verdicts


@settings(max_examples=60, deadline=None)
@given(good_routes, good_routes, st.booleans())
def test_the_translation_before_changes_only_the_cost(earlier, later, with_slices):
    before = translate(state(*earlier, *WEB))
    now = state(*later, service(), *(WEB[1:] if with_slices else ()))
    fresh, reused = translate(now), translate(now, before)
    assert fresh.snapshot(1, 1) == reused.snapshot(1, 1)
    assert fresh.verdicts == reused.verdicts


def test_what_did_not_change_keeps_its_identity():
    routes = [
        route("a", hosts=["a.example.com"]),
        route("b", hosts=["b.example.com"], rules=[rule(service="api")]),
    ]
    api = service("api"), pieces(endpoint("api-1", "10.0.1.1"), of="api", name="api-1")
    before = translate(state(*routes, *WEB, *api))
    grown = pieces(endpoint("api-1", "10.0.1.1"), endpoint("api-2", "10.0.1.2"), of="api", name="api-1")
    after = translate(state(*routes, *WEB, api[0], grown), before)
    assert after.endpoints["default/web:80"] is before.endpoints["default/web:80"]
    assert after.endpoints["default/api:80"] is not before.endpoints["default/api:80"]
    assert after.routes["default/a"] is before.routes["default/a"]
    assert after.routes["default/b"] is before.routes["default/b"]
    assert after.verdicts["default", "a"] is before.verdicts["default", "a"]
    assert not after.same_content(before)
    assert translate(after.state, after).same_content(after)


@pytest.mark.parametrize("name", [5, None, ["stickyroute"]])
def test_a_route_whose_class_cannot_be_read_is_told_of(name):
    verdict = translate(state(route(className=name, tls=5))).verdicts["default", "shop"]
    assert not verdict.accepted.status
    assert name is None or "spec.className: must be text" in verdict.accepted.message


def test_a_deleted_route_is_served_no_more_while_a_finalizer_of_others_holds_it():
    from dataclasses import replace

    translation = translate(state(replace(route(), deleting=True), *WEB))
    assert translation.routes == {}
    assert translation.verdicts == {}


def test_an_endpoint_joins_until_it_is_acknowledged():
    def states(acknowledged):
        endpoints = translate(state(route(), *WEB, acknowledged=acknowledged)).endpoints["default/web:80"]
        return [endpoint.state for endpoint in endpoints]

    joining, serving = EndpointState.JOINING, EndpointState.SERVING
    assert states(None) == [serving, serving]
    assert states({}) == [joining, joining]
    assert states({"default/web:80": frozenset({"uid-web-1"})}) == [serving, joining]
    assert states({"default/other:80": frozenset({"uid-web-1"})}) == [joining, joining]


@pytest.mark.parametrize("protocol", ["tls", "kubernetes.io/h2c", "h2c", "grpc", "GRPC"])
def test_other_protocols_are_named(protocol):
    objects = route(), service(app_protocol=protocol), WEB[1]
    verdict = translate(state(*objects)).verdicts["default", "shop"]
    assert verdict.resolved.reason is ConditionReason.UNSUPPORTED_PROTOCOL
    assert protocol in verdict.resolved.message


@pytest.mark.parametrize("protocol", ["", "http", "kubernetes.io/ws", "example.com/own"])
def test_plain_protocols_are_served(protocol):
    objects = route(), service(app_protocol=protocol), WEB[1]
    assert translate(state(*objects)).verdicts["default", "shop"].resolved.status


def test_a_headless_service_without_ports_has_none_to_offer():
    headless = Service("default", "web")
    verdict = translate(state(route(), headless, WEB[1])).verdicts["default", "shop"]
    assert verdict.resolved.reason is ConditionReason.PORT_NOT_FOUND
    assert "offers none" in verdict.resolved.message


def test_a_thousand_routes_and_ten_thousand_endpoints_are_quick():
    objects = []
    for number in range(1000):
        name = f"s{number}"
        objects += [
            route(name, hosts=[f"{name}.example.com"], rules=[rule(service=name)]),
            service(name),
            pieces(
                *(
                    endpoint(f"{name}-{pod}", f"10.{number // 250}.{number % 250}.{pod + 1}")
                    for pod in range(10)
                ),
                of=name,
                name=name,
            ),
        ]
    random.Random(1).shuffle(objects)
    before = translate(state(*objects, acknowledged={}))
    changed = [item for item in objects if item.name != "s500" or not hasattr(item, "endpoints")]
    changed.append(pieces(endpoint("s500-0", "10.2.0.1"), of="s500", name="s500"))
    took = []
    for _ in range(3):
        start = time.process_time()
        after = translate(state(*changed, acknowledged={}), before)
        took.append(time.process_time() - start)
    print(f"one pod's change among 1,000 routes and 10,000 endpoints: {min(took) * 1000:.1f} ms")
    assert min(took) < 0.1
    different = [key for key in after.endpoints if after.endpoints[key] is not before.endpoints[key]]
    assert different == ["default/s500:80"]


def test_a_filter_must_not_change_the_notice_of_a_lost_session():
    modifier = {"set": [{"name": "x-lost", "value": "never"}]}
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}]
    rules = [rule(filters=filters)]
    assert translate(state(route(rules=rules), *WEB)).routes
    verdict = translate(
        state(route(rules=rules, persistence={"failover": {"notifyHeader": "X-Lost"}}), *WEB)
    ).verdicts["default", "shop"]
    assert not verdict.accepted.status
    assert "spec.rules[0].filters[0].requestHeaderModifier: X-Lost" in verdict.accepted.message


def test_a_rule_that_redirects_needs_no_service():
    filters = [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}]
    translation = translate(state(route(rules=[{"name": "app", "filters": filters}])))
    verdict = translation.verdicts["default", "shop"]
    assert verdict.resolved.status
    assert not verdict.needs_endpoints
    assert verdict.scopes == ()
    (served,) = translation.routes["default/shop"].rules
    assert served.changes.redirect.scheme == "https"


@pytest.mark.parametrize(
    ("policies", "told"),
    [(("Cohort",), True), (("Cohort", "Cohort"), True), (("Cohort", "Pod"), False), (("Pod",), False)],
)
def test_a_release_that_no_session_could_follow_is_told(policies, told):
    rules = [
        rule(f"r{at}", path=f"/{at}", persistence={"type": "Cookie", "bindTo": bind})
        for at, bind in enumerate(policies)
    ]
    order = {"pod": "web-1", "action": "Release", "since": "2026-11-23T12:00:00Z"}
    objects = service(), pieces(endpoint("web-1", "10.0.0.1"))
    found = translate(state(route(rules=rules, overrides=[order]), *objects)).verdicts["default", "shop"]
    assert found.accepted.status
    assert ("spec.overrides[0].action: " in found.accepted.message) is told


def test_a_rule_without_sessions_has_a_drain_and_an_epoch_for_its_tunnels():
    given = route(persistence={"type": "None", "drainTimeout": "10m", "epoch": 3})
    (served,) = translate(state(given, service())).routes["default/shop"].rules
    assert (served.persistence.drain_timeout, served.persistence.epoch) == (600.0, 3)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_port_number_that_udp_has_too_is_the_tcp_one(turn):
    """As Services of servers that speak HTTP/3 have it."""
    ports = (ServicePort("quic", 443, "UDP"), ServicePort("web", 443))[::turn]
    found = translate(
        state(
            route(rules=[rule(port=443)]),
            Service("default", "web", ports=ports),
            pieces(endpoint("web-1", "10.0.0.1"), port_name="web"),
        )
    )
    assert found.verdicts["default", "shop"].resolved.reason is ConditionReason.RESOLVED_REFS
    assert len(found.endpoints["default/web:443"]) == 1


@pytest.mark.parametrize(
    "since", ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "-5"]
)
def test_no_time_of_a_release_keeps_others_from_being_served(since):
    given = route(overrides=[{"pod": "web-1", "action": "Release", "since": since}])
    found = translate(state(given, route("other", hosts=["other.example.com"]), *WEB))
    assert set(found.routes) == {"default/shop", "default/other"}


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_slice_with_a_port_that_is_none_keeps_others_from_nothing(port):
    """The API server takes any number there."""
    bad = pieces(endpoint("web-3", "10.0.0.3"), name="web-2", port=port)
    found = translate(state(route(), *WEB, bad)).endpoints["default/web:80"]
    assert [one.pod for one in found] == ["web-1", "web-2"]


@pytest.mark.parametrize(("gone", "grace"), [("2026-11-23T12:00:00Z", 10**11), ("1850-11-23T12:00:00Z", 30)])
def test_a_pod_with_a_grace_period_of_thousands_of_years_keeps_others_from_nothing(gone, grace):
    """With so many seconds Kubernetes' own sum for deletionTimestamp overflows."""
    meta = {"name": "web-1", "namespace": "default", "uid": "uid-web-1", "deletionTimestamp": gone}
    ends = Pod.from_manifest({"metadata": meta | {"deletionGracePeriodSeconds": grace}})
    left = pieces(endpoint("web-1", "10.0.0.1", ready=False, serving=True, terminating=True))
    (found,) = translate(state(route(), service(), left, ends)).endpoints["default/web:80"]
    assert found.state is EndpointState.DRAINING


def test_what_the_proxies_model_does_not_take_refuses_its_route_alone(monkeypatch):
    def since(one):
        return Override(pod=one.pod, action=one.action, since=-1.0)

    monkeypatch.setattr(routes, "_override", since)
    given = route(overrides=[{"pod": "web-1", "action": "Drain"}])
    found = translate(state(given, route("other", hosts=["other.example.com"]), *WEB))
    assert set(found.routes) == {"default/other"}
    refused = found.verdicts["default", "shop"].accepted
    assert refused.reason is ConditionReason.INVALID
    assert refused.message.startswith("spec: its Override has a since that cannot be: ")
