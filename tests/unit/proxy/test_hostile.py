"""Hostile tokens: none is accepted, none is an error, and none costs a bound session its place."""

import os
import tracemalloc
from random import Random

from tests.hostile import HOSTILE, Good
from tests.unit.proxy.fleets import (
    COOKIE,
    NOW,
    Client,
    Proxy,
    Request,
    fleet,
    persistence,
    pods,
    route,
    rule,
)

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.choose import choose

WEB = pods("web-1", "web-2", "web-3")
NO_SESSION = {BindingReason.NEW, BindingReason.INVALID_TOKEN, BindingReason.KEY_RETIRED}


def test_ten_thousand_hostile_tokens_are_no_tokens():
    random = Random(20261125)
    proxy = Proxy(fleet(web=WEB))
    client = Client()
    home = client.ask(proxy).endpoint
    client.ask(proxy)
    good = Good(client.token, home.key, now=NOW)
    accepted = []
    for _ in range(10_000):
        made = random.choice(tuple(HOSTILE))
        cookie = COOKIE.encode() + b"=" + HOSTILE[made](random, good)
        decision = choose(proxy.rule(), Request(cookies=[cookie]), proxy.now, proxy.random)
        if decision.reason not in NO_SESSION:
            accepted.append(made)
        assert decision.set_token is not None
        assert decision.notice is None
    assert not accepted
    assert proxy.table.known.count == len(proxy.table.known.tokens) == 1
    assert client.ask(proxy).endpoint is home


def test_no_token_is_known_by_python_s_hash_of_it(monkeypatch):
    """That has 64 bits, and is no secret where PYTHONHASHSEED is set."""
    proxy = Proxy(fleet(web=WEB))
    client = Client()
    client.ask(proxy)
    assert client.ask(proxy).reason is BindingReason.BOUND
    known = client.token

    class Alike(bytes):
        def __hash__(self):
            return hash(known)

    forged = Alike(known[:-1] + (b"A" if known[-1:] != b"A" else b"B"))
    assert hash(forged) == hash(known) != forged
    monkeypatch.setattr(type(proxy.scope()), "presented", lambda *_: [forged])
    assert client.ask(proxy).reason is BindingReason.INVALID_TOKEN


def test_a_token_of_an_ended_epoch_is_not_accepted_again():
    proxy = Proxy(fleet(web=WEB))
    clients = [Client() for _ in range(50)]
    for client in clients:
        client.ask(proxy)
        client.ask(proxy)
    old = [client.token for client in clients]
    proxy.apply(fleet([route(rule(persistence=persistence(epoch=1)))], 2, web=WEB))
    for client in clients:
        assert client.ask(proxy).reason is BindingReason.EPOCH_RAISED
        assert client.ask(proxy).reason is BindingReason.BOUND
    for token in old:
        for _ in range(2):
            # It is never bound by it; whoever shows it is where its session is.
            assert proxy.ask(token).reason is BindingReason.EPOCH_RAISED


def test_a_hundred_cookies_of_our_name_are_eight():
    proxy = Proxy(fleet(web=WEB))
    client = Client()
    home = client.ask(proxy).endpoint
    pair = COOKIE.encode() + b"="
    junk = [pair + b"x%d" % n for n in range(99)]
    for at in (0, 3, 7):
        cookies = b"; ".join([*junk[:at], pair + client.token, *junk[at:]])
        decision = choose(proxy.rule(), Request(cookies=[cookies]), proxy.now, proxy.random)
        assert (decision.endpoint, decision.reason) == (home, BindingReason.BOUND)
    late = b"; ".join([*junk, pair + client.token])
    decision = choose(proxy.rule(), Request(cookies=[late]), proxy.now, proxy.random)
    assert decision.reason is BindingReason.INVALID_TOKEN


def test_a_flood_of_keys_leaves_bound_sessions_bound_and_memory_as_it_was():
    def snapshot():
        hashed = persistence(type="QueryParam", cookie=None, name="room")
        return fleet(
            [route(), route(rule(persistence=hashed), name="rooms", hosts=("rooms.example.com",))], web=WEB
        )

    proxy = Proxy(snapshot())
    clients = [Client() for _ in range(20)]
    homes = [client.ask(proxy).endpoint for client in clients]
    for client in clients:
        client.ask(proxy)
    rooms = proxy.rule(host=b"rooms.example.com")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(20_000):
        proxy.ask(os.urandom(77).hex()[:103].encode())
        proxy.ask()
        proxy.ask(cookies=[b"sr=%d" % n])
        choose(rooms, Request(query=b"room=%d" % n), proxy.now, proxy.random)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 8 << 20
    assert proxy.table.known.count == len(clients)
    assert [client.ask(proxy).endpoint for client in clients] == homes
