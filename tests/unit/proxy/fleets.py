"""Snapshots to test with, and requests to them."""

import base64
from dataclasses import dataclass, field
from random import Random

from stickyroute_api import snapshot
from stickyroute_api.reasons import EndpointState
from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Snapshot, TokenKeys
from stickyroute_proxy.affinity.choose import choose
from stickyroute_proxy.affinity.decision import Decision
from stickyroute_proxy.affinity.keys import Bound, presented
from stickyroute_proxy.table import Rule, Table, build

NOW = 1_800_000_000.0
KEYS = TokenKeys(sealing=1, keys={1: base64.b64encode(b"k" * 32).decode()})
COOKIE = "sr"


def pod(name, state=EndpointState.SERVING, **fields):
    fields = {"id": f"uid-{name}", "address": "10.0.0.1", "port": 8080} | fields
    return snapshot.Endpoint(pod=name, state=state, **fields)


def pods(*names, **fields):
    return tuple(pod(name, **fields) for name in names)


def persistence(**fields):
    fields = {"type": "Cookie", "cookie": snapshot.Cookie(name=COOKIE)} | fields
    return snapshot.Persistence(**fields)


ANY = snapshot.Match()


def rule(name="app", services=(("web", 1),), matches=(ANY,), **fields):
    backends = tuple(
        snapshot.Backend(service=service, endpoints=f"shop/{service}:80", weight=weight)
        for service, weight in services
    )
    fields = {"scope": "web", "persistence": persistence()} | fields
    return snapshot.Rule(name=name, matches=tuple(matches), backends=backends, **fields)


def route(*rules, name="shop", namespace="shop", created=1.0, hosts=(), **fields):
    return snapshot.Route(
        namespace=namespace, name=name, created=created, hosts=hosts, rules=rules or (rule(),), **fields
    )


def fleet(routes=None, revision=1, keys=KEYS, settings=None, **services):
    """`services`: the endpoints of each service of the namespace `shop`, on port 80."""
    routes = (route(),) if routes is None else routes
    return Snapshot(
        fleet="stickyroute",
        epoch=1,
        revision=revision,
        settings=settings or Settings(),
        keys=keys,
        routes={one.key: one for one in routes},
        endpoints={f"shop/{name}:80": endpoints for name, endpoints in services.items()},
    )


@dataclass
class Request:
    """What a decision reads of one."""

    cookies: list[bytes] = field(default_factory=list)
    address: str = "192.0.2.1"
    query: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    bound: Bound = (b"", b"", None)

    def values(self, name: bytes) -> list[bytes]:
        return [self.headers[name]] if name in self.headers else []

    def field(self, name: bytes) -> bytes:
        return self.headers.get(name, b"")

    def presented(self, prefix: bytes) -> list[bytes]:
        return presented(self.cookies, prefix)


class Proxy:
    """A proxy without sockets: a table, a clock and its own randomness."""

    def __init__(self, given: Snapshot, seed=0, now=NOW, name="proxy-1"):
        self.now = now
        self.random = Random(seed)
        self.name = name
        self.table: Table = build(given, None, now, self.random, name)

    def apply(self, given: Snapshot) -> Table:
        self.table = build(given, self.table, self.now, self.random, self.name)
        return self.table

    def tick(self, seconds: float) -> None:
        """Let time pass, with a sweep at its end."""
        self.now += seconds
        self.table.sweep(self.now)

    def rule(self, path=b"/", host=b"shop.example.com") -> Rule:
        found = self.table.find(host, path, b"", b"GET", [])
        assert found is not None
        return found

    def ask(self, token: bytes | None = None, path=b"/", name=COOKIE, **request) -> Decision:
        """A request with a token, as a browser sends it beside other cookies."""
        if token is not None:
            request["cookies"] = [b"a=1; " + name.encode() + b"=" + token + b"; b=2"]
        return choose(self.rule(path), Request(**request), self.now, self.random)

    def find(self, *names):
        """The endpoints of these pods."""
        found = {endpoint.pod: endpoint for endpoint in self.table.endpoints()}
        return [found[name] for name in names]

    def touch(self, name, **health):
        """What a health check found of a pod."""
        (endpoint,) = self.find(name)
        for what, value in health.items():
            setattr(endpoint, what, value)
        self.table.touch([endpoint], self.now)

    def scope(self, name="shop/shop/web"):
        return self.table.scopes[name]


class Client:
    """A browser: it keeps what it is given."""

    def __init__(self):
        self.token: bytes | None = None

    def ask(self, proxy: Proxy, **request) -> Decision:
        decision = proxy.ask(self.token, **request)
        if decision.set_token is not None:
            self.token = decision.set_token or None
        return decision


def session_on(name, proxy: Proxy) -> Client:
    """A client whose session is on this pod, and known."""
    while True:
        client = Client()
        if client.ask(proxy).endpoint.pod == name:
            client.ask(proxy)
            return client
