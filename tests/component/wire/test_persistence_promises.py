"""What docs/promises.md says, from a route in its author's words to the bytes that a browser sees.

The operator's translation of the routes is served by two proxies on real sockets.
"""

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from tests.component.wire.apps import Browser, pod_of
from tests.component.wire.harness import Backend, Proxy, echo, eventually, get
from tests.unit.operator.builders import endpoint, pieces, route, rule, service, state

from stickyroute_api.snapshot import Snapshot
from stickyroute_operator.translate import translate

HOUR = 3600
BETA = [{"headers": [{"name": "X-Beta", "value": "1"}]}]


def named(name):
    return echo(lambda *_: b"HTTP/1.1 200 OK\r\nX-Pod: %b\r\nContent-Length: 0\r\n\r\n" % name.encode())


class Cluster:
    """Services, their pods and routes, and the two proxies that serve them."""

    def __init__(self):
        self.now = 1_800_000_000.0
        self.routes = ()
        self.pods = {}
        self.services = {}
        self.translation = None
        self.revision = 0
        self.proxies = []

    async def start(self, of, *names):
        for name in names:
            self.pods[name] = await Backend(named(name)).start()
            self.services.setdefault(of, {})[name] = {}

    def delete(self, of, name):
        """The pod is gone from its Service; what answered on its port answers on."""
        del self.services[of][name]

    def apply(self, *routes):
        self.routes = routes or self.routes
        objects = [*self.routes, *map(service, self.services)]
        for of, pods in self.services.items():
            for name, conditions in pods.items():
                one = endpoint(name, "127.0.0.1", **conditions)
                objects.append(pieces(one, name=name, of=of, port=self.pods[name].port))
        before = {} if self.translation is None else self.translation.endpoints
        now = datetime.fromtimestamp(self.now, UTC)
        given = state(*objects, allow_loopback=True, before=before, now=now)
        self.translation = translate(given, self.translation)
        for verdict in self.translation.verdicts.values():
            assert verdict.accepted.status, verdict.accepted.message
        self.revision += 1
        sent = self.translation.snapshot(1, self.revision).model_dump_json()
        for proxy in self.proxies:
            proxy.apply(Snapshot.model_validate_json(sent))

    async def restart(self, number):
        """Another proxy in the place of one: it knows nothing but the snapshot."""
        before = self.proxies[number]
        self.proxies[number] = await Proxy(clock=lambda: self.now).start()
        self.apply()
        await before.plane.drain(0, 0.2)

    async def ask(self, client, turn=0, *lines, path="/"):
        """The pod that answers through the proxy whose turn it is."""
        pod, _ = await client.ask(self.proxies[turn % 2], *lines, path=path)
        return pod.decode()

    async def clients(self, count):
        """Browsers, each after its first request: {browser: pod}."""
        found = [Browser() for _ in range(count)]
        return {client: await self.ask(client, turn) for turn, client in enumerate(found)}

    async def homes(self, clients, turn=0):
        return {client: await self.ask(client, turn + number) for number, client in enumerate(clients)}

    def scopes(self, name):
        return [proxy.plane.table.scopes[name] for proxy in self.proxies]

    def notices(self):
        """What the pods were told of lost sessions."""
        told = b"".join(pod.bytes for pod in self.pods.values())
        return Counter(word.decode() for word in re.findall(rb"(?im)^x-session-lost: (.*)\r$", told))


@asynccontextmanager
async def cluster(*routes, web=("web-1", "web-2", "web-3"), **services):
    one = Cluster()
    for name, pods in {"web": web, **services}.items():
        await one.start(name, *pods)
    one.proxies = [await Proxy(clock=lambda: one.now).start() for _ in range(2)]
    one.apply(*(routes or [route()]))
    try:
        yield one
    finally:
        for proxy in one.proxies:
            await proxy.plane.drain(0, 0.2)
        for pod in one.pods.values():
            await pod.stop()
        for proxy in one.proxies:
            await eventually(lambda: not proxy.plane.counters.upstreams)  # noqa: B023


def split(web, canary):
    backends = [{"service": name, "port": 80, "weight": n} for name, n in (("web", web), ("canary", canary))]
    return route(rules=[rule(backends=backends)])


def cookies(head):
    """{name: attributes} of an answer's Set-Cookie fields."""
    return dict(re.findall(r"(?im)^set-cookie: ([^=]+)=[^;]+; (.*)\r$", head.decode()))


@pytest.mark.parametrize(
    "policy", [{}, {"type": "Header", "sessionName": "X-Session"}], ids=["cookie", "header"]
)
async def test_sixty_requests_of_a_session_reach_one_pod(policy):
    async with cluster(route(persistence=policy)) as one:
        for client in (Browser(policy.get("sessionName")) for _ in range(3)):
            assert len({await one.ask(client, turn) for turn in range(60)}) == 1
        assert one.notices() == {}


async def test_a_session_cookie_names_no_end_and_a_permanent_one_names_its_absolute_timer():
    async with cluster() as one:
        for kind, ends in (("Session", []), ("Permanent", ["Max-Age=3600"])):
            one.apply(route(persistence={"absoluteTimeout": "1h", "cookie": {"lifetimeType": kind}}))
            client = Browser()
            await one.ask(client)
            (attributes,) = cookies(client.heads[0]).values()
            assert [part for part in attributes.split("; ") if re.match("(?i)max-age|expires", part)] == ends


@pytest.mark.parametrize("kind", ["Session", "Permanent"])
async def test_the_absolute_timer_ends_a_session_whose_browser_keeps_the_cookie(kind):
    policy = {"absoluteTimeout": "1h", "cookie": {"lifetimeType": kind}}
    async with cluster(route(persistence=policy)) as one:
        client = Browser()
        home = await one.ask(client)
        for turn in range(6):
            one.now += 599
            assert await one.ask(client, turn) == home
        kept = dict(client.kept)
        one.now += 7
        await one.ask(client, 1)
        assert client.kept != kept
        assert sum(scope.expired for scope in one.scopes("default/shop/web")) == 1
        assert one.notices() == {}


async def test_new_sessions_are_split_by_weight_and_old_ones_stay_at_weight_0():
    async with cluster(split(70, 30), canary=("canary-1", "canary-2")) as one:
        before = await one.clients(200)
        shares = Counter(home.split("-")[0] for home in before.values())
        assert abs(shares["web"] / 200 - 0.7) <= 0.02
        one.apply(split(0, 100))
        assert await one.homes(before, 1) == before
        await one.restart(0)
        assert await one.homes(before) == before
        assert {home.split("-")[0] for home in (await one.clients(20)).values()} == {"canary"}
        assert one.notices() == {}


async def test_rules_with_persistence_of_their_own_share_no_session_on_one_service():
    rules = [rule(name, path=f"/{name}", persistence={"type": "Cookie"}) for name in ("a", "b")]
    async with cluster(route(rules=rules)) as one:
        differ = 0
        for turn in range(9):
            client = Browser()
            homes = [await one.ask(client, turn, path="/a")]
            # What /a says means nothing at /b: a session of its own begins there.
            homes.append(await one.ask(client, turn, path="/b"))
            differ += homes[0] != homes[1]
            assert len(client.kept) == 2
            for again in range(4):
                assert [await one.ask(client, again, path=path) for path in ("/a", "/b")] == homes
        assert differ > 0
        assert [sum(s.new for s in one.scopes(f"default/shop/{name}")) for name in ("a", "b")] == [9, 9]
        # One's token under the other's name is none.
        (a, token), (b, _) = client.kept.items()
        forger = Browser()
        forger.kept = {b: token}
        await one.ask(forger, path="/b")
        told = [{str(reason): n for reason, n in s.others.items()} for s in one.scopes("default/shop/b")]
        assert sum(counts.get("InvalidToken", 0) for counts in told) == 1
        assert a != b


async def test_a_session_never_decides_which_rule_a_request_fits():
    rules = [{**rule("beta", "canary"), "matches": BETA}, rule()]
    async with cluster(route(rules=rules), canary=("canary-1",)) as one:
        client = Browser()
        home = await one.ask(client)
        for turn in range(4):
            assert await one.ask(client, turn, "X-Beta: 1") == "canary-1"
            assert await one.ask(client, turn) == home


async def test_a_terminating_pod_keeps_its_sessions_for_hours_and_takes_no_new_ones():
    async with cluster(route(persistence={"drainTimeout": "6h"})) as one:
        client = Browser()
        home = await one.ask(client)
        one.services["web"][home] = {"ready": False, "serving": True, "terminating": True}
        one.apply()
        assert home not in (await one.clients(12)).values()
        for turn in range(5):
            one.now += HOUR
            one.apply()
            assert await one.ask(client, turn) == home
        await one.restart(1)
        assert await one.ask(client, 1) == home
        assert one.notices() == {}
        one.now += HOUR + 1
        one.apply()
        assert len({await one.ask(client, turn) for turn in range(6)} - {home}) == 1
        assert one.notices() == {"PodTerminated": 1}


@pytest.mark.parametrize("told", [True, False], ids=["deleted", "dead"])
async def test_a_lost_pod_costs_its_session_one_move_and_no_error(told):
    async with cluster(web=[f"web-{n}" for n in range(5)]) as one:
        client = Browser()
        home = await one.ask(client)
        await one.pods[home].stop()
        if told:
            one.delete("web", home)
            one.apply()
        # Not an error page: `ask` gives the status line where no pod answered.
        places = [await one.ask(client, turn) for turn in range(50)]
        assert len(set(places)) == 1
        assert places[0] in set(one.pods) - {home}
        assert one.notices() == {"PodTerminated" if told else "ConnectFailed": 1}
        assert [bool(cookies(head)) for head in client.heads] == [True, True, *[False] * 49]
        # The pod that is back is no reason to move again.
        if not told:
            one.pods[home] = await Backend(named(home)).start(one.pods[home].port)
            assert {await one.ask(client, turn) for turn in range(6)} == set(places[:1])


async def test_more_pods_and_replaced_ones_move_only_the_sessions_of_those_replaced():
    async with cluster() as one:
        before = await one.clients(30)
        await one.start("web", "web-4", "web-5", "web-6")
        one.apply()
        assert await one.homes(before, 1) == before
        # The new ones have their share of what is new.
        homes = Counter((await one.clients(60)).values())
        assert [homes[f"web-{n}"] for n in range(1, 7)] == [10] * 6
        one.delete("web", "web-1")
        await one.start("web", "web-7")
        one.apply()
        after = await one.homes(before)
        lost = [client for client, home in before.items() if home == "web-1"]
        assert {client for client in before if after[client] != before[client]} == set(lost)
        assert await one.homes(before, 1) == after
        assert one.notices() == {"PodTerminated": len(lost)}


async def test_six_parallel_requests_at_two_proxies_with_one_old_token_end_on_one_pod():
    async with cluster(web=[f"web-{n}" for n in range(8)]) as one:
        for _ in range(6):
            client = Browser()
            home = await one.ask(client)
            one.delete("web", home)
            one.apply()
            ((name, token),) = client.kept.items()
            request = get("/", f"Cookie: {name}={token}", "Connection: close")
            heads = await asyncio.gather(*(one.proxies[turn % 2].ask(request) for turn in range(6)))
            (place,) = {pod_of(head).decode() for head in heads}
            assert place != home
            # Whichever answer came last, the browser stays there.
            for turn, head in enumerate(heads):
                client._keep(head.decode())
                assert await one.ask(client, turn) == place
            one.services["web"][home] = {}
            one.apply()


async def test_a_rewritten_path_and_several_routes_of_a_host_keep_each_session():
    rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch"}}}
    rewrite["urlRewrite"]["path"]["replacePrefixMatch"] = "/"
    shop = route(hosts=["shop.example.com"], rules=[rule(path="/shop/v1", filters=[rewrite])])
    docs = route("docs", hosts=["shop.example.com"], rules=[rule(path="/docs")])
    async with cluster(shop, docs) as one:
        client = Browser()
        homes = {path: await one.ask(client, path=path) for path in ("/shop/v1/cart", "/docs/a")}
        assert [
            attributes.split("; ")[0] for head in client.heads for attributes in cookies(head).values()
        ] == ["Path=/"] * 2
        assert len(client.kept) == 2
        for turn in range(6):
            for path, home in homes.items():
                assert await one.ask(client, turn, path=path) == home
        assert b"GET /cart " in one.pods[homes["/shop/v1/cart"]].bytes


async def test_what_is_changed_elsewhere_moves_no_session():
    async with cluster(other=("other-1", "other-2")) as one:
        before = await one.clients(20)
        (shop,) = one.routes
        changes = [
            [shop, route("new", created=500.0, hosts=["new.example.com"], rules=[rule(service="other")])],
            [shop, route("new", created=2000.0, rules=[rule(service="other", path="/new")])],
            [shop],
            [route(rules=[rule("renamed", timeouts={"request": "5s"}, limits={"queue": 7})])],
            [route(rules=[{**rule("beta", "other"), "matches": BETA}, rule()])],
            [route(loadBalancing={"algorithm": "LeastSessions"}, persistence={"idleTimeout": "2h"})],
        ]
        for turn, routes in enumerate(changes):
            one.delete("other", next(iter(one.services["other"])))
            await one.start("other", f"other-{turn}-again")
            one.apply(*routes)
            assert await one.homes(before, turn) == before
        assert one.notices() == {}


async def test_a_source_address_leaves_a_pod_that_is_not_ready_and_comes_home():
    async with cluster(route(persistence={"type": "SourceIP"})) as one:
        home = await one.ask(Browser())
        one.services["web"][home] = {"ready": False}
        one.apply()
        (place,) = {await one.ask(Browser(), turn) for turn in range(6)}
        assert place != home
        one.services["web"][home] = {}
        one.apply()
        assert {await one.ask(Browser(), turn) for turn in range(6)} == {home}


async def test_the_sessions_of_a_crowded_pod_spread_over_all_others():
    async with cluster(web=("web-1",)) as one:
        before = await one.clients(48)
        await one.start("web", "web-2", "web-3", "web-4", "web-5")
        one.apply()
        assert await one.homes(before) == before
        one.services["web"]["web-1"] = {"ready": False}
        one.apply()
        places = Counter((await one.homes(before, 1)).values())
        assert set(places) == {"web-2", "web-3", "web-4", "web-5"}
        assert max(places.values()) <= 2 * 12
