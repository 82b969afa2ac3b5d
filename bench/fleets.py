"""Snapshots and heads for what is measured in one process, without sockets."""

import base64
import os
from random import Random
from typing import Final

from stickyroute_api import snapshot
from stickyroute_api.snapshot import Snapshot, TokenKeys
from stickyroute_proxy.affinity.choose import choose
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.table import Table
from stickyroute_proxy.wire.head import RequestHead

NOW: Final = 1_800_000_000.0
HOST: Final = b"r0.example.com"
"""The host of the first route."""

COOKIE: Final = snapshot.Persistence(
    type="Cookie",
    cookie=snapshot.Cookie(name="stickyroute-0123abcd"),
    idle_timeout=1800,
    absolute_timeout=43200,
)
HEADER: Final = snapshot.Persistence(type="Header", name="X-Session", idle_timeout=1800)
ENVELOPE: Final = snapshot.Persistence(type="AppCookie", name="JSESSIONID", learn="Envelope")


def fleet(routes: int, endpoints: int, policy: snapshot.Persistence = COOKIE) -> Snapshot:
    """So many routes, each with one host, one rule for everything, and so many endpoints."""
    return Snapshot(
        fleet="bench",
        epoch=1,
        revision=1,
        keys=TokenKeys(sealing=1, keys={1: base64.b64encode(os.urandom(32)).decode()}),
        routes={
            f"shop/r{number}": snapshot.Route(
                namespace="shop",
                name=f"r{number}",
                created=number,
                hosts=(f"r{number}.example.com",),
                rules=(
                    snapshot.Rule(
                        name="app",
                        matches=(snapshot.Match(),),
                        backends=(snapshot.Backend(service=f"s{number}", endpoints=f"shop/s{number}:80"),),
                        scope=f"s{number}",
                        persistence=policy,
                    ),
                ),
            )
            for number in range(routes)
        },
        endpoints={
            f"shop/s{number}:80": tuple(pod(f"s{number}-{each}") for each in range(endpoints))
            for number in range(routes)
        },
    )


def pod(name: str) -> snapshot.Endpoint:
    return snapshot.Endpoint(id=f"uid-{name}", pod=name, address="10.0.0.1", port=8080)


def only_rule(table: Table) -> Rule:
    rule = table.find(HOST, b"/", b"", b"GET", [])
    if rule is None:
        raise LookupError("the bench's own route does not match")
    return rule


def shown(policy: snapshot.Persistence, key: bytes | None) -> RequestHead:
    """The request of a client that shows this key, or none, as the policy has it."""
    head = RequestHead()
    head.cookies, head.headers = [], [(b"Accept", b"*/*")] * 6
    if policy.type == "Header":
        head.cookies = [b"theme=dark; lang=en"]
        if key is not None:
            head.headers = [*head.headers, (policy.name.encode(), key)]
        return head
    name = policy.cookie.name if policy.cookie is not None else policy.name
    pairs = [b"theme=dark", b"lang=en"]
    if key is not None:
        pairs.insert(1, name.encode() + b"=" + key)
    head.cookies = [b"; ".join(pairs)]
    return head


def minted(rule: Rule, random: Random) -> bytes:
    """The key of a new session, as its client shows it."""
    scope = rule.scope
    begun = choose(rule, shown(scope.policy, None), NOW, random)
    if scope.policy.learn is not None and begun.binding is not None:
        return scope.keyring.seal_with(b"value", begun.binding, scope.identity) + b"~value"
    return begun.set_token or b""
