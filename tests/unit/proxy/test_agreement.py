"""Proxies that know nothing of one another say the same of every bound, hashed and failed-over request."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.unit.proxy.fleets import (
    COOKIE,
    NOW,
    Client,
    Proxy,
    Request,
    fleet,
    persistence,
    pod,
    route,
    rule,
)

from stickyroute_api.leases import Lease
from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Failover, Override, Persistence, SessionLimits
from stickyroute_proxy.affinity.choose import choose, choose_bound
from stickyroute_proxy.affinity.retry import rechoose
from stickyroute_proxy.affinity.token import Binding

STATES = [EndpointState.SERVING] * 4 + [EndpointState.NOT_READY, EndpointState.DRAINING]
MODES = ["Repin", "Temporary", "Reject", "Redirect"]
REQUESTS = 4_000


def world(random, revision):
    """Twenty pods in any states, split over two services, with any policy; and what health checks found."""
    services = {}
    for service in ("web", "canary"):
        numbers = random.sample(range(14), 10)
        services[service] = tuple(
            pod(
                f"{service}-{n}",
                random.choice(STATES),
                id=f"uid-{service}-{n}-{random.randrange(2)}",
                stable=f"shop/{service}-{n}",
                cohort=f"{service}-{n % 3}",
                draining_since=NOW - random.choice([10, 100]),
                serving=random.random() < 0.8,
                started=NOW - random.choice([500, 50]),
            )
            for n in sorted(numbers)
        )
    weights = (("web", random.randrange(3)), ("canary", random.randrange(3)))
    failover = Failover(mode=random.choice(MODES), hold=random.choice([0, 5]))
    policy = persistence(
        bind_to=random.choice(["Pod", "StatefulPod"]), idle_timeout=500, drain_timeout=50, failover=failover
    )
    hashed = Persistence(type="QueryParam", name="room")
    orders = tuple(
        Override(pod=f"web-{n}", action=random.choice(["Drain", "Disable", "Release"]), since=NOW - 30)
        for n in random.sample(range(14), 2)
    )
    rooms = route(rule(services=weights, persistence=hashed), name="rooms", hosts=("rooms.example.com",))
    routes = [route(rule(services=weights, persistence=policy), overrides=orders), rooms]
    sick = random.sample([one.pod for found in services.values() for one in found], 3)
    return fleet(routes, revision, **services), sick


def say(seed, count, own, *, knows):
    """What a proxy says of so many random requests; `own` is its randomness, of which nothing may depend."""
    random = Random(seed)
    told = []
    proxy = None
    for revision in range(1, 9):
        given, sick = world(random, revision)
        if proxy is None or not knows:
            proxy = Proxy(given, seed=own + revision)
        else:
            proxy.apply(given)
        for endpoint in proxy.table.endpoints():
            endpoint.unhealthy = endpoint.pod == sick[0]
            endpoint.ejected_until = NOW + 60 if endpoint.pod in sick[1:] else 0.0
            proxy.table.touch([endpoint], NOW)
        rooms = proxy.rule(host=b"rooms.example.com")
        scope = proxy.scope()
        ring = scope.keyring
        for _ in range(count // 8):
            n, service = random.randrange(14), random.choice(["web", "canary"])
            uid, stable = f"uid-{service}-{n}-{random.randrange(2)}", f"shop/{service}-{n}"
            one = pod(uid, id=uid, stable=stable)
            name = scope.name(type(next(proxy.table.endpoints()))(one, service))
            times = NOW - random.randrange(600), NOW - random.randrange(100), NOW - random.randrange(700)
            flags = random.choice([0, 0, 1, 2])
            binding = Binding(random.randbytes(12), name, *times, 0, flags, 1)
            token = ring.seal(binding, scope.identity)
            cookie = Request(cookies=[COOKIE.encode() + b"=" + token])
            fails = random.random() < 0.2
            room = Request(query=b"room=%d" % random.randrange(10**6))
            for rule_, facts in ((proxy.rule(), cookie), (rooms, room)):
                decision = choose(rule_, facts, NOW, proxy.random)
                if decision.reason.value in ("IdleTimeout", "New"):
                    told.append(decision.reason.value)
                    continue
                told.append(seen(decision))
                if fails and decision.endpoint is not None:
                    again = rechoose(rule_, facts, decision, NOW, proxy.random, tried={decision.endpoint})
                    told.append(seen(again))
            stored = choose_bound(proxy.rule(), cookie, binding, NOW, proxy.random)
            told.append(stored.reason.value if stored.reason.value == "IdleTimeout" else seen(stored)[:2])
    return told


def seen(decision):
    endpoint = decision.endpoint and decision.endpoint.id
    return [endpoint, decision.reason.value, decision.set_token is None, bool(decision.set_token)]


def differing(mine, theirs):
    """Pairs that are not alike. What a proxy knew tells it that a value has moved; where to is the same."""

    def alike(one, two):
        return one == two or (one[0] == two[0] and "EndpointsChanged" in (one[1], two[1]))

    return [pair for pair in zip(mine, theirs, strict=True) if not alike(*pair)]


def test_independent_processes_decide_alike():
    mine = say(1, REQUESTS, 1000, knows=True)
    call = (
        "import json; from tests.unit.proxy.test_agreement import say;"
        f" print(json.dumps(say(1, {REQUESTS}, 5, knows=False)))"
    )
    other = subprocess.run(
        [sys.executable, "-c", call],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    theirs = json.loads(other.stdout)
    assert len(mine) == len(theirs) >= REQUESTS
    assert not differing(mine, theirs)
    assert len({one[1] for one in mine if isinstance(one, list)}) >= 8


def test_a_browser_s_parallel_requests_at_two_proxies_with_one_old_token_end_on_one_pod():
    web = tuple(pod(f"web-{n}") for n in range(10))
    one, other = Proxy(fleet(web=web), seed=1), Proxy(fleet(web=web), seed=2)
    for _ in range(50):
        client = Client()
        home = client.ask(one).endpoint.pod
        left = fleet(revision=2, web=tuple(each for each in web if each.pod != home))
        proxies = [Proxy(left, seed=3), Proxy(left, seed=4)]
        answers = [proxies[n % 2].ask(client.token) for n in range(6)]
        assert len({answer.endpoint.pod for answer in answers}) == 1
        # Whichever answer's token the browser keeps.
        for answer in answers:
            kept = {proxy.ask(answer.set_token).endpoint.pod for proxy in proxies}
            assert kept == {answers[0].endpoint.pod}
        assert [proxy.scope().moved for proxy in proxies] == [1, 1]
    assert other.table.known.count == 0


def lost(limits, count=2):
    """Proxies with these limits, none of which knows the session that has just lost its pod; its token."""
    policy = persistence(limits=limits)
    web = tuple(pod(f"web-{n}") for n in range(6))
    client = Client()
    home = client.ask(Proxy(fleet(web=web))).endpoint.pod
    left = fleet((route(rule(persistence=policy)),), web=tuple(one for one in web if one.pod != home))
    return [Proxy(left, seed=n) for n in range(count)], client.token


def lend(proxy, **placed):
    """Let it place so many on each pod."""
    quota = proxy.scope().sessions.quota
    quota.obey({f"uid-{name.replace('_', '-')}": Lease(placed=count) for name, count in placed.items()})


def test_requests_in_flight_part_no_parallel_requests_of_one_old_token():
    for _ in range(20):
        proxies, token = lost(SessionLimits(requests=2))
        places = set()
        for n in range(6):
            found = proxies[n % 2].ask(token).endpoint
            found.in_flight += 1
            places.add(found.pod)
        assert len(places) == 1


def test_proxies_whose_shares_of_a_limit_differ_agree_as_long_as_each_has_one():
    for _ in range(20):
        proxies, token = lost(SessionLimits(sessions=20))
        lend(proxies[0], **{f"web_{n}": 1 for n in range(6)})
        lend(proxies[1], **{f"web_{n}": 9 - n for n in range(6)})
        assert len({proxies[n % 2].ask(token).endpoint.pod for n in range(6)}) == 1


def test_who_has_no_share_left_takes_the_next_pod_that_all_would_take():
    for _ in range(20):
        proxies, token = lost(SessionLimits(sessions=20), 3)
        first, other, without = proxies
        taken = first.ask(token).endpoint.pod
        lend(other, **{f"web_{n}": 0 for n in range(6) if f"web-{n}" != taken})
        assert other.ask(token).endpoint.pod == taken
        lend(without, **{taken.replace("-", "_"): 0})
        second = without.ask(token).endpoint.pod
        given = first.table.snapshot
        web = tuple(one for one in given.endpoints["shop/web:80"] if one.pod != taken)
        first.apply(fleet(tuple(given.routes.values()), 2, web=web))
        assert second == first.ask(token).endpoint.pod != taken
