"""Bindings that a store keeps: the same checks and ends, and no token."""

import pytest
from tests.unit.proxy.fleets import NOW, Proxy, Request, fleet, persistence, pod, pods, route, rule

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_api.snapshot import Failover
from stickyroute_proxy.affinity.choose import choose_bound
from stickyroute_proxy.affinity.decision import Parked
from stickyroute_proxy.affinity.retry import rechoose, sidestep
from stickyroute_proxy.affinity.scope import UNTIMED, Kind

WEB = pods("web-1", "web-2", "web-3")


class Store:
    """What keeps one client's binding, as the data plane does."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.binding = None

    def ask(self):
        return self.take(choose_bound(*self._request(), self.binding, self.proxy.now, self.proxy.random))

    def again(self, decision, **kwargs):
        return self.take(rechoose(*self._request(), decision, self.proxy.now, self.proxy.random, **kwargs))

    def _request(self):
        rule = self.proxy.rule()
        rule.scope.kind = Kind.STORED
        rule.scope.sticky = False
        return rule, Request()

    def take(self, decision):
        assert not decision.set_token
        assert decision.token is None
        if decision.set_token == b"":
            self.binding = None
        self.binding = decision.binding or self.binding
        return decision


def start(**failover):
    policy = persistence(idle_timeout=1000, failover=Failover(**failover))
    given = [route(rule(persistence=policy))]
    proxy = Proxy(fleet(given, web=WEB))
    store = Store(proxy)
    home = store.ask().endpoint
    left = tuple(one for one in WEB if one.pod != home.pod)
    return proxy, store, home, given, left


def test_a_binding_is_new_once_and_renewed_when_it_has_aged():
    proxy, store, home, *_ = start()
    assert store.binding.endpoint == home.key
    first = store.ask()
    assert (first.endpoint, first.reason, first.binding) == (home, BindingReason.BOUND, None)
    proxy.tick(101)
    assert store.ask().binding.sealed == proxy.now
    assert store.ask().binding is None
    assert proxy.table.known.count == 1
    proxy.tick(1101)
    assert store.ask().reason is BindingReason.IDLE_TIMEOUT


def test_it_moves_when_its_pod_is_gone():
    proxy, store, _, given, left = start()
    store.ask()
    proxy.apply(fleet(given, 2, web=left))
    moved = store.ask()
    assert (moved.reason, moved.notice) == (BindingReason.POD_TERMINATED, b"PodTerminated")
    assert store.binding.endpoint == moved.endpoint.key
    assert store.ask().reason is BindingReason.BOUND
    assert proxy.scope().moved == 1


@pytest.mark.parametrize("mode", ["Temporary", "Reject"])
def test_it_stays_while_its_pod_can_come_back(mode):
    proxy, store, home, given, left = start(mode=mode)
    away = pod(home.pod, EndpointState.NOT_READY, serving=False)
    proxy.apply(fleet(given, 2, web=(away, *left)))
    for _ in range(2):
        decision = store.ask()
        assert decision.reason is BindingReason.POD_NOT_READY
        assert (decision.endpoint is None) == (mode == "Reject")
        assert store.binding.endpoint == home.key
    proxy.apply(fleet(given, 3, web=WEB))
    assert store.ask().endpoint.pod == home.pod


@pytest.mark.parametrize("mode", ["Reject", "Redirect"])
def test_it_ends_with_its_pod(mode):
    proxy, store, _, given, left = start(mode=mode)
    proxy.apply(fleet(given, 2, web=left))
    decision = store.ask()
    assert (decision.endpoint, decision.reason) == (None, BindingReason.POD_TERMINATED)
    assert store.binding is None
    assert store.ask().reason is BindingReason.NEW


def test_it_is_held():
    proxy, store, home, given, left = start(hold=5)
    proxy.apply(fleet(given, 2, web=(pod(home.pod, EndpointState.NOT_READY), *left)))
    assert isinstance(store.ask(), Parked)


def test_a_refused_connection_moves_it_and_a_full_pod_only_a_new_one():
    proxy, store, home, *_ = start()
    bound = store.ask()
    moved = store.again(bound, tried={home})
    assert (moved.reason, moved.endpoint is home) == (BindingReason.CONNECT_FAILED, False)
    assert store.ask().endpoint is moved.endpoint
    fresh = Store(proxy)
    new = fresh.ask()
    new.endpoint.in_flight = 1
    aside = fresh.take(sidestep(proxy.rule(), Request(), new, 1, proxy.random, tried=()))
    assert aside.endpoint is not new.endpoint
    assert fresh.ask().endpoint is aside.endpoint
    assert store.binding.created == NOW


def test_one_without_timers_is_renewed_before_the_store_forgets_it():
    policy = persistence(type="AppCookie", name="ID", learn="Store", cookie=None)
    proxy = Proxy(fleet([route(rule(persistence=policy))], web=WEB))
    store = Store(proxy)
    store.ask()
    for _ in range(10):
        proxy.tick(86400.0)
        store.ask()
        assert store.binding.sealed > proxy.now - UNTIMED / 2
