from tests.unit.proxy.fleets import (
    COOKIE,
    Client,
    Proxy,
    Request,
    fleet,
    persistence,
    pod,
    pods,
    route,
    rule,
    session_on,
)

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_proxy.affinity.choose import choose
from stickyroute_proxy.affinity.retry import rechoose


def pod_of(decision):
    return None if decision.endpoint is None else decision.endpoint.pod


def test_a_session_stays_on_its_pod():
    proxy = Proxy(fleet(web=pods("web-1", "web-2", "web-3")))
    client = Client()
    first = client.ask(proxy)
    assert (first.reason, first.notice) == (BindingReason.NEW, None)
    for _ in range(20):
        again = client.ask(proxy)
        assert (again.endpoint, again.reason, again.set_token) == (first.endpoint, BindingReason.BOUND, None)


def test_a_connection_s_requests_are_decided_as_each_would_be_alone():
    proxy = Proxy(fleet(web=pods("web-1", "web-2", "web-3")))
    clients = [session_on(name, proxy) for name in ("web-1", "web-2", "web-2", "web-3")]
    forged = clients[0].token[:-2] + b"AA"
    kept = Request()

    def agree(token):
        kept.cookies = [COOKIE.encode() + b"=" + token]
        found, alone = choose(proxy.rule(), kept, proxy.now, proxy.random), proxy.ask(token)
        assert (found.reason, found.token) == (alone.reason, alone.token)
        assert found.endpoint is alone.endpoint or alone.token is None
        return found.reason

    for client in (*clients, *clients[::-1], clients[0]):
        assert agree(client.token) is BindingReason.BOUND
    kept.cookies = [COOKIE.encode() + b"=" + forged]
    assert choose(proxy.rule(), kept, proxy.now, proxy.random).reason is BindingReason.INVALID_TOKEN
    assert agree(clients[0].token) is BindingReason.BOUND
    proxy.apply(fleet(web=pods("web-2", "web-3"), revision=2))
    kept.cookies = [COOKIE.encode() + b"=" + clients[0].token]
    assert choose(proxy.rule(), kept, proxy.now, proxy.random).reason is BindingReason.POD_TERMINATED


def test_another_proxy_with_the_same_keys_says_the_same():
    given = fleet(web=pods("web-1", "web-2", "web-3"))
    one, other = Proxy(given, seed=1), Proxy(given, seed=2)
    for _ in range(30):
        client = Client()
        first = client.ask(one)
        assert pod_of(client.ask(other)) == pod_of(first)


def test_only_the_sessions_of_a_removed_pod_move_once_with_notice():
    proxy = Proxy(fleet(web=pods("web-1", "web-2", "web-3")))
    clients = [Client() for _ in range(60)]
    before = [pod_of(client.ask(proxy)) for client in clients]
    for client in clients:
        client.ask(proxy)
    table = proxy.apply(fleet(web=pods("web-1", "web-3"), revision=2))
    assert [endpoint.pod for endpoint in table.removed] == ["web-2"]
    for client, old in zip(clients, before, strict=True):
        moved = client.ask(proxy)
        if old == "web-2":
            assert (moved.reason, moved.notice) == (BindingReason.POD_TERMINATED, b"PodTerminated")
            assert pod_of(moved) in ("web-1", "web-3")
        else:
            assert (pod_of(moved), moved.reason) == (old, BindingReason.BOUND)
        assert client.ask(proxy).reason is BindingReason.BOUND
    scope = proxy.scope()
    (departed,) = scope.sessions.departures
    assert (departed.pod, departed.reason) == ("web-2", BindingReason.POD_TERMINATED)
    assert departed.dropped == departed.moved == scope.moved == before.count("web-2")


def test_a_new_pod_on_an_old_address_inherits_nothing():
    proxy = Proxy(fleet(web=(pod("web-1", address="10.0.0.7"),)))
    client = Client()
    client.ask(proxy)
    proxy.apply(fleet(web=(pod("web-2", address="10.0.0.7"),), revision=2))
    assert client.ask(proxy).reason is BindingReason.POD_TERMINATED


def test_no_endpoint():
    proxy = Proxy(fleet(web=()))
    decision = proxy.ask()
    assert (decision.endpoint, decision.reason) == (None, BindingReason.NO_ENDPOINT)


def test_without_persistence_each_request_is_balanced():
    proxy = Proxy(
        fleet([route(rule(persistence=persistence(type="None", cookie=None)))], web=pods("web-1", "web-2"))
    )
    seen = [proxy.ask() for _ in range(10)]
    assert {decision.reason for decision in seen} == {BindingReason.UNPINNED}
    assert [pod_of(one) for one in seen].count("web-1") == 5
    assert {decision.set_token for decision in seen} == {None}


def test_a_refused_connection_moves_a_bound_session():
    proxy = Proxy(fleet(web=pods("web-1", "web-2")))
    client = Client()
    client.ask(proxy)
    bound = client.ask(proxy)
    moved = rechoose(proxy.rule(), Request(), bound, proxy.now, proxy.random, tried={bound.endpoint})
    assert moved.endpoint is not bound.endpoint
    assert (moved.reason, moved.notice) == (BindingReason.CONNECT_FAILED, b"ConnectFailed")
    assert pod_of(proxy.ask(moved.set_token)) == pod_of(moved)


def test_a_draining_pod_keeps_its_sessions_until_its_deadline():
    proxy = Proxy(fleet([route(rule(persistence=persistence(drain_timeout=30)))], web=(pod("web-1"),)))
    client = Client()
    client.ask(proxy)
    client.ask(proxy)
    draining = pod("web-1", EndpointState.DRAINING, draining_since=proxy.now)
    proxy.apply(
        fleet(
            [route(rule(persistence=persistence(drain_timeout=30)))], revision=2, web=(draining, pod("web-2"))
        )
    )
    assert pod_of(proxy.ask()) == "web-2"
    assert client.ask(proxy).reason is BindingReason.BOUND
    proxy.tick(31)
    assert proxy.scope().sessions.departures[0].dropped == 1
    assert client.ask(proxy).reason is BindingReason.POD_TERMINATED
