from random import Random

import pytest
from tests.unit.proxy.fleets import NOW, Client, Proxy, fleet, persistence, pod, pods, route, rule

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Cookie, Delta, Failover, HeaderMatch, Match
from stickyroute_proxy.table import AT_ONCE, build


def test_endpoints_rules_and_scopes_outlive_snapshots():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    before = {endpoint.pod: endpoint for endpoint in proxy.table.endpoints()}
    found, scope = proxy.rule(), proxy.scope()
    before["web-1"].in_flight = 3
    table = proxy.apply(
        fleet(
            [route(rule(matches=(Match(path="/new"),)))],
            web=(pod("web-1", EndpointState.NOT_READY), pod("web-3")),
            revision=2,
        )
    )
    after = {endpoint.pod: endpoint for endpoint in table.endpoints()}
    assert after["web-1"] is before["web-1"]
    assert (after["web-1"].in_flight, after["web-1"].state) == (3, EndpointState.NOT_READY)
    assert table.removed == (before["web-2"],)
    assert proxy.rule(b"/new") is found
    assert proxy.scope() is scope
    assert str(table.version) == "1.2"


@pytest.mark.parametrize("change", [{"id": "other"}, {"address": "10.9.9.9"}, {"port": 9}])
def test_another_identity_or_address_is_another_endpoint(change):
    proxy = Proxy(fleet(web=(pod("web-1"),)))
    (old,) = proxy.table.endpoints()
    table = proxy.apply(fleet(web=(pod("web-1", **change),), revision=2))
    (new,) = table.endpoints()
    assert new is not old
    assert table.removed == (old,)


def test_a_delta_touches_only_what_it_names():
    base = fleet(
        [
            route(rule(services=((name, 1),), scope=name), name=name, hosts=(f"{name}.example.com",))
            for name in "ab"
        ],
        a=pods("a-1"),
        b=pods("b-1"),
    )
    proxy = Proxy(base)
    index, pools = (
        proxy.table.index,
        {name: proxy.rule(host=name) for name in (b"a.example.com", b"b.example.com")},
    )
    new = base.model_copy(
        update={"revision": 2, "endpoints": base.endpoints | {"shop/a:80": pods("a-1", "a-2")}}
    )
    table = proxy.apply(Delta.between(base, new).apply(base))
    assert table.index is index
    assert {name: proxy.rule(host=name) for name in pools} == pools
    assert set(proxy.scope("shop/a/a").named) != set(proxy.scope("shop/b/b").named)
    assert len(proxy.scope("shop/a/a").named) == 2


def test_a_route_that_goes_takes_its_sessions_along():
    proxy = Proxy(fleet(web=pods("web-1")))
    client = Client()
    client.ask(proxy)
    client.ask(proxy)
    assert proxy.table.known.count == len(proxy.table.known.tokens) == 1
    proxy.apply(fleet([], web=pods("web-1"), revision=2))
    assert proxy.table.known.count == len(proxy.table.known.tokens) == 0
    assert proxy.table.find(b"h", b"/", b"", b"GET", []) is None
    proxy.apply(fleet(web=pods("web-1"), revision=3))
    assert client.ask(proxy).reason is BindingReason.BOUND


def test_another_service_keeps_the_sessions_where_they_are():
    """Further backends, weights and rules are no part of a scope."""
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    clients = [Client() for _ in range(10)]
    homes = [client.ask(proxy).endpoint for client in clients]
    canary = rule(services=(("web", 1), ("canary", 9)))
    more = rule("more", matches=(Match(path="/more"),))
    proxy.apply(fleet([route(canary, more)], web=pods("web-1", "web-2"), canary=pods("c-1"), revision=2))
    assert [client.ask(proxy).endpoint for client in clients] == homes
    assert [client.ask(proxy, path=b"/more").endpoint for client in clients] == homes
    proxy.apply(fleet([route(rule(services=(("web", 0), ("canary", 1))))], web=pods("web-1", "web-2"),
                      canary=pods("c-1"), revision=3))  # fmt: skip
    assert [client.ask(proxy).endpoint for client in clients] == homes
    assert proxy.ask().endpoint.pod == "c-1"


def test_a_rule_of_the_scope_reaches_the_pod_on_its_own_port():
    ws = rule("ws", services=(("ws", 1),), matches=(Match(path="/ws"),))
    proxy = Proxy(
        fleet([route(rule(), ws)], web=pods("web-1", "web-2"), ws=pods("web-1", "web-2", port=9000)),
    )
    client = Client()
    home = client.ask(proxy).endpoint
    other = client.ask(proxy, path=b"/ws")
    assert (other.endpoint.pod, other.endpoint.port, other.reason) == (home.pod, 9000, BindingReason.BOUND)


def test_a_backend_that_leaves_the_scope_while_its_pod_lives():
    both = [
        route(rule(services=(("web", 1), ("canary", 1)))),
        route(rule(services=(("canary", 1),)), name="other", hosts=("other.example.com",)),
    ]
    proxy = Proxy(fleet(both, web=pods("web-1"), canary=pods("c-1")))
    clients = [Client(), Client()]
    homes = [client.ask(proxy).endpoint.pod for client in clients]
    proxy.apply(fleet([route(rule()), both[1]], web=pods("web-1"), canary=pods("c-1"), revision=2))
    moved = clients[homes.index("c-1")].ask(proxy)
    assert (moved.endpoint.pod, moved.reason) == ("web-1", BindingReason.POLICY_CHANGED)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            rule(matches=(Match(path_type="RegularExpression", path="("),)),
            r"route shop/shop, rule app: path: '\('",
        ),
        (rule(matches=(Match(headers=(HeaderMatch(name="X", value="(", regex=True),)),)), r"headers\[X\]"),
        (
            rule(matches=(Match(query_params=(HeaderMatch(name="q", value="(", regex=True),)),)),
            r"queryParams\[q\]",
        ),
        (rule(persistence=persistence(cookie=None)), r"persistence\.cookie: missing"),
        (rule(persistence=persistence(cookie=Cookie(name="a b"))), r"persistence\.cookie\.name"),
        (rule(persistence=persistence(cookie=Cookie(name="a", path="/;x"))), r"persistence\.cookie\.path"),
        (
            rule(persistence=persistence(cookie=Cookie(name="a", domain="a\r\nb"))),
            r"persistence\.cookie\.domain",
        ),
        (
            rule(persistence=persistence(failover=Failover(notify_header="X: y"))),
            r"persistence\.failover\.notify_header",
        ),
        (
            rule(persistence=persistence(failover=Failover(mode="Redirect", redirect_url="/a\r\nb: c"))),
            r"persistence\.failover\.redirect_url",
        ),
    ],
)
def test_a_bad_snapshot_is_refused_whole_and_changes_nothing(bad, message):
    proxy = Proxy(fleet(web=pods("web-1")))
    client = Client()
    client.ask(proxy)
    with pytest.raises(ValueError, match=message):
        proxy.apply(fleet([route(bad)], web=pods("web-2"), revision=2))
    decision = client.ask(proxy)
    assert (decision.endpoint.pod, decision.reason) == ("web-1", BindingReason.BOUND)


def test_a_pod_of_very_many_routes_is_followed_by_a_few_at_once_and_by_each_before_its_next_request():
    hosts = [f"h{number}.example.com" for number in range(300)]
    routes = [route(name=f"r{number}", hosts=(host,)) for number, host in enumerate(hosts)]
    table = build(fleet(routes, web=pods("web-1", "web-2")), None, NOW, Random(1))
    one = table.sets["shop/web:80"].endpoints[0]

    def following():
        return sum(
            one not in rule.balancer.tiers[0][0][2] for own in table.routes.values() for rule in own.rules
        )

    one.unhealthy = True
    table.touch([one], NOW)
    assert following() == AT_ONCE
    for host in hosts[:100]:
        rule = table.find(host.encode(), b"/", b"", b"GET", [])
        assert one not in rule.balancer.tiers[0][0][2]
    waiting = object()
    table.stirred.append(waiting)
    assert table.returned() == []
    table = build(fleet(routes, revision=2, web=pods("web-1", "web-2")), table, NOW, Random(1))
    while table.stale:
        table.freshen()
    assert following() == 300
