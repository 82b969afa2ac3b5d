"""What a proxy routes by: the snapshot compiled into dictionaries, and the state that outlives snapshots."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from math import inf
from random import Random
from typing import Any, Final

from stickyroute_api import snapshot
from stickyroute_api.leases import Leases
from stickyroute_api.snapshot import Snapshot, Version
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.scope import Scope
from stickyroute_proxy.affinity.sessions import KnownSessions
from stickyroute_proxy.affinity.token import Keyring
from stickyroute_proxy.bounds import Limits, Timeouts
from stickyroute_proxy.certificates import Certificates, EndpointTls, endpoint_tls
from stickyroute_proxy.changes import Changes, compiled
from stickyroute_proxy.match import Entry, Headers, Index, Match
from stickyroute_proxy.sets import EndpointSet, same, take
from stickyroute_proxy.trust import Trust

__all__ = ["Endpoint", "Rule", "Scope", "Table", "build", "prepare"]

AT_ONCE: Final = 16
"""So many routes follow health checks in one go: about a millisecond's work."""

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LOCATION: Final = re.compile(r"[!-~]*")
_ATTRIBUTE: Final = re.compile(r"[ -:<-~]*")


class Table:
    """A snapshot in the form in which requests are decided."""

    __slots__ = (
        "certificates",
        "ejected",
        "endpoint_tls",
        "index",
        "keyring",
        "known",
        "pods",
        "random",
        "removed",
        "routes",
        "scopes",
        "sets",
        "sharers",
        "snapshot",
        "stale",
        "stirred",
        "touched",
        "trust",
        "users",
        "version",
        "zone",
    )

    version: Version
    snapshot: Snapshot
    removed: tuple[Endpoint, ...]
    """Endpoints that left with this table: their idle connections are to be closed."""
    scopes: dict[str, Scope]
    """By id."""
    keyring: Keyring
    trust: Trust
    certificates: Certificates
    endpoint_tls: dict[str, EndpointTls]
    """By set; the others are spoken to in the clear."""
    known: KnownSessions
    zone: str
    """The proxy's own; empty when it is not known."""

    sharers: int
    """How many processes share the limits of scopes."""

    index: Index
    sets: dict[str, EndpointSet]
    routes: "dict[str, _Route]"
    users: dict[str, list[str]]
    """The keys of the routes that use a set of endpoints."""
    pods: dict[bytes, int]
    """How many endpoints of all sets bindings may name so."""
    ejected: set[Endpoint]
    """Those that take no new sessions until their time is over."""
    random: Random
    stale: dict[str, None]
    """The routes that have yet to follow what health checks found.

    Each does before the next request that is matched to it; one that is matched already may choose without.
    """
    touched: float
    """When health checks last found something (Unix seconds)."""
    stirred: list[Any]
    """The data path's queues at endpoints that keep no sessions by a health check, and of scopes gone."""

    def __init__(
        self,
        snapshot: Snapshot,
        keyring: Keyring,
        routes: "dict[str, _Route]",
        previous: "Table | None",
        now: float,
    ) -> None:
        """The part that cannot fail; `build` does the rest."""
        self.version = snapshot.version
        self.snapshot = snapshot
        self.keyring = keyring
        self.routes = routes
        self.pods = {} if previous is None else previous.pods
        self.known = KnownSessions(now) if previous is None else previous.known
        self.ejected = set() if previous is None else previous.ejected
        self.stale = {}
        self.touched = now
        self.stirred = []

    def find(self, host: bytes, path: bytes, query: bytes, method: bytes, headers: Headers) -> Rule | None:
        """The rule of a request; None when no rule matches.

        `host` is in lower case and without a port; `path` and `query` are the target's raw bytes before and
        after its first `?`; `headers` are as received.
        """
        rule = self.index.find(host, path, query, method, headers)
        if self.stale and rule is not None and rule.route in self.stale:
            del self.stale[rule.route]
            self.routes[rule.route].refresh(self, self.touched)
        return rule

    def endpoints(self) -> Iterator[Endpoint]:
        """Every endpoint; a pod behind several Services more than once."""
        for found in self.sets.values():
            yield from found.endpoints

    def sweep(self, now: float) -> None:
        """Forget what has been idle too long, and note what has ended: drains, ejections.

        Four times a second.
        """
        if self.ejected:
            self.touch([one for one in self.ejected if one.ejected_until <= now], now)
        for scope in self.scopes.values():
            if scope.draining:
                scope.settle(now)
            # Whoever is let go on has to decide in this turn: see `returned`.
            if (scope.sessions.quota is not None or scope.mover is not None) and not self.stale:
                scope.admit(now)
        self.known.sweep((scope.sessions for scope in self.scopes.values()), now)

    def returned(self) -> list[Any]:
        """The queues of exchanges that are to decide anew, each once.

        What they wait for has come back, will not, or keeps no sessions, as a health check has found.
        None before their routes know of it: they would decide as before.
        """
        if self.stale:
            return []
        found, self.stirred = self.stirred, []
        for scope in self.scopes.values():
            if scope.returned:
                found += scope.returned
                scope.returned = []
        return found

    def share(self) -> None:
        """Tell all limits how many share them."""
        for scope in self.scopes.values():
            if scope.sessions.quota is not None:
                scope.sessions.quota.sharers = self.sharers

    def obey(self, leases: Leases) -> None:
        """Go by these leases."""
        for scope_id, lent in leases.scopes.items():
            scope = self.scopes.get(scope_id)
            if scope is not None and scope.sessions.quota is not None:
                scope.sessions.quota.obey(lent)
        for scope_id, scope in self.scopes.items():
            if scope.mover is not None:
                scope.mover.obey(leases.moves.get(scope_id, {}))

    def touch(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Follow what health checks found: their `unhealthy` or `ejected_until` has been set.

        A Service may be that of very many routes: `AT_ONCE` follow now, the others by `freshen`.
        """
        for endpoint in endpoints:
            endpoint.settle()
            if endpoint.ejected_until > now:
                self.ejected.add(endpoint)
            else:
                self.ejected.discard(endpoint)
            if endpoint.queue and not endpoint.keep_until:
                self.stirred.append(endpoint.queue)
            self.stale |= dict.fromkeys(self.users.get(endpoint.set_id, ()))
        self.touched = now
        self.freshen()

    def freshen(self) -> None:
        """Have some of the stale routes follow; to be called until none is left, with requests in between."""
        for _ in range(min(AT_ONCE, len(self.stale))):
            key, _ = self.stale.popitem()
            self.routes[key].refresh(self, self.touched)


def build(
    snapshot: Snapshot,
    previous: Table | None,
    now: float,
    random: Random,
    proxy: str = "",
    *,
    workers: int = 1,
) -> Table:
    """The table of a snapshot for the proxy of that name, made from its predecessor by what has changed.

    Endpoints, rules, scopes and what is known of sessions live on in the new table, updated in place: from
    then on the previous one must not be used. Raises ValueError naming the object and the field, before
    anything is touched.
    """
    return prepare(snapshot, previous, now, random, proxy, workers=workers)()


def prepare(
    snapshot: Snapshot,
    previous: Table | None,
    now: float,
    random: Random,
    proxy: str,
    *,
    workers: int = 1,
) -> Callable[[], Table]:
    """All of `build` that can fail; what is returned does the rest, and leaves no way back.

    `workers`: how many processes the proxy has.
    Raises ValueError naming the object and the field.
    """
    old_routes = {} if previous is None else previous.routes
    routes = {key: _route(given, old_routes.get(key)) for key, given in snapshot.routes.items()}
    fresh = [key for key, route in routes.items() if old_routes.get(key) is not route]
    if previous is None or previous.snapshot.keys != snapshot.keys:
        keyring = Keyring(snapshot.keys)
    else:
        keyring = previous.keyring
    table = Table(snapshot, keyring, routes, previous, now)
    table.trust = _trust(snapshot, previous)
    table.certificates = _certificates(snapshot, previous, fresh)
    table.endpoint_tls = endpoint_tls(
        snapshot.backend_tls, None if previous is None else previous.endpoint_tls
    )
    table.zone = snapshot.settings.zones.get(proxy, "")
    table.sharers = max(1, snapshot.settings.proxies) * workers
    return partial(_adopt, table, previous, now, random)


def _adopt(table: Table, previous: Table | None, now: float, random: Random) -> Table:
    """Take over and bring up to date what lives on. Nothing here fails."""
    routes = table.routes
    table.random = random
    old_routes = {} if previous is None else previous.routes
    # The endpoints of a proxy's first table have served for who knows how long.
    old_sets, since = ({}, -inf) if previous is None else (previous.sets, now)
    table.sets, changed, table.removed = take(
        table.snapshot.endpoints, table.endpoint_tls, old_sets, table.pods, since
    )
    table.ejected.difference_update(table.removed)
    fresh = [key for key, route in routes.items() if old_routes.get(key) is not route]
    if previous is None or fresh or len(routes) != len(old_routes):
        for key in fresh:
            routes[key].adopt(old_routes.get(key), table, random)
        table.scopes = {scope.id: scope for route in routes.values() for scope in route.scopes}
        table.index = _index(routes.values())
        table.users = _users(routes)
    else:
        table.scopes, table.index, table.users = previous.scopes, previous.index, previous.users
    table.share()
    if previous is not None:
        for scope_id in previous.scopes.keys() - table.scopes.keys():
            previous.scopes[scope_id].sessions.forget()
            table.stirred += previous.scopes[scope_id].waiting()
        if previous.keyring is not table.keyring:
            for scope in table.scopes.values():
                scope.take_keyring(table.keyring)
            table.known.reopen()
    touched: Collection[str] = set(fresh).union(*(table.users.get(set_id, ()) for set_id in changed))
    if previous is not None and previous.zone != table.zone:
        touched = routes
    for key in touched:
        routes[key].refresh(table, now)
    if previous is not None:
        table.stale = {key: None for key in previous.stale if key in routes and key not in touched}
        table.touched = previous.touched
    return table


def _trust(snapshot: Snapshot, previous: Table | None) -> Trust:
    trusted = snapshot.settings.trusted_proxies
    return previous.trust if previous is not None and previous.trust.cidrs == trusted else Trust(trusted)


def _certificates(snapshot: Snapshot, previous: Table | None, fresh: list[str]) -> Certificates:
    """`fresh`: the keys of routes that are new or have changed."""
    if previous is None:
        return Certificates(snapshot.routes.values(), snapshot.certificates)
    before = previous.snapshot
    if (
        fresh
        or len(snapshot.routes) != len(before.routes)
        or not same(before.certificates, snapshot.certificates)
    ):
        return Certificates(snapshot.routes.values(), snapshot.certificates, previous.certificates)
    return previous.certificates


class _Route:
    """A route's compiled matches and changes, and its running rules and scopes."""

    __slots__ = ("changes", "given", "matches", "rules", "scopes")

    def __init__(self, given: snapshot.Route) -> None:
        """Raises ValueError naming the route and the field."""
        self.given = given
        self.matches = []
        self.changes: dict[str, Changes] = {}
        to_https = given.tls is not None and given.tls.redirect
        for rule in given.rules:
            try:
                _check(rule)
                self.matches.append([Match(match) for match in rule.matches])
                self.changes[rule.name] = compiled(rule, to_https=to_https)
            except ValueError as error:
                raise ValueError(f"route {given.key}, rule {rule.name}: {error}") from error
        self.rules: tuple[Rule, ...] = ()
        self.scopes: tuple[Scope, ...] = ()

    def adopt(self, old: "_Route | None", table: Table, random: Random) -> None:
        """Make the running rules and scopes, from those of the route's predecessor where it has them."""
        old_rules = {} if old is None else {rule.name: rule for rule in old.rules}
        scopes = {} if old is None else {scope.id: scope for scope in old.scopes}
        self.rules = tuple(
            self._rule(given, old_rules.get(given.name), scopes, table, random) for given in self.given.rules
        )
        self.scopes = tuple({rule.scope.id: rule.scope for rule in self.rules}.values())
        orders = {one.pod: one.action for one in self.given.overrides if one.action != "Release"}
        for rule in self.rules:
            rule.balancer.orders = orders
        for scope in self.scopes:
            if scope.overrides != self.given.overrides:
                scope.overrides = self.given.overrides
                table.known.reopen()
            scope.rules = tuple(rule for rule in self.rules if rule.scope is scope)
            scope.take_keyring(table.keyring)

    def _rule(
        self, given: snapshot.Rule, old: Rule | None, scopes: dict[str, Scope], table: Table, random: Random
    ) -> Rule:
        rule = Rule(given.name, self.given.key) if old is None else old
        scope_id = f"{self.given.key}/{given.scope}"
        scope = scopes.get(scope_id)
        if scope is None:
            scope = scopes[scope_id] = Scope(scope_id, table.known, table.pods)
        if scope.policy != given.persistence:
            scope.take(given.persistence)
            table.known.reopen()
        rule.scope = scope
        rule.timeouts = Timeouts.of(given.timeouts)
        rule.attempts = given.retries.attempts if "connect-failure" in given.retries.on else 0
        rule.changes = self.changes[given.name]
        rule.limits = Limits.of(given.limits)
        rule.notify_header = given.persistence.failover.notify_header.lower().encode()
        rule.balancer.take(given, scope.sessions, random)
        return rule

    def refresh(self, table: Table, now: float) -> None:
        """Take the endpoints anew."""
        for rule in self.rules:
            for backend in rule.balancer.backends:
                found = table.sets.get(backend.set_id)
                backend.endpoints = () if found is None else found.endpoints
            rule.balancer.refresh(table.zone, now, table.random)
        for scope in self.scopes:
            scope.refresh(now, table.random)


def _route(given: snapshot.Route, old: _Route | None) -> _Route:
    return old if old is not None and same(old.given, given) else _Route(given)


def _check(rule: snapshot.Rule) -> None:
    """ValueError for what would break the head of a message: the second look, behind the operator's."""
    policy = rule.persistence
    notice = policy.failover.notify_header
    if not _TOKEN.fullmatch(notice):
        raise ValueError(f"persistence.failover.notify_header: {notice!r} is not a header name")
    if policy.type in {"AppCookie", "Header"} and not _TOKEN.fullmatch(policy.name):
        raise ValueError(f"persistence.name: {policy.name!r} is not the name of a cookie or header")
    if policy.type == "AppCookie" and policy.learn is None:
        raise ValueError("persistence.learn: missing, and type is AppCookie")
    if not _LOCATION.fullmatch(policy.failover.redirect_url):
        raise ValueError("persistence.failover.redirect_url: holds a character that has to be escaped")
    if policy.cookie is None:
        if policy.type == "Cookie":
            raise ValueError("persistence.cookie: missing, and type is Cookie")
        return
    if not _TOKEN.fullmatch(policy.cookie.name):
        raise ValueError(f"persistence.cookie.name: {policy.cookie.name!r} is not a cookie name")
    for field in ("path", "domain"):
        if not _ATTRIBUTE.fullmatch(getattr(policy.cookie, field)):
            raise ValueError(f"persistence.cookie.{field}: holds a character that an attribute cannot")


def _index(routes: Iterable[_Route]) -> Index:
    entries: dict[str, list[Entry]] = {}
    for route in routes:
        given = route.given
        for position, (rule, matches) in enumerate(zip(route.rules, route.matches, strict=True)):
            for match in matches:
                order = (match.rank, given.created, given.key, position)
                for host in given.hosts or ("",):
                    entries.setdefault(host, []).append(Entry(match, rule, order))
    return Index(entries)


def _users(routes: dict[str, _Route]) -> dict[str, list[str]]:
    """The keys of the routes that use a set of endpoints."""
    users: dict[str, list[str]] = {}
    for key, route in routes.items():
        for set_id in {backend.set_id for rule in route.rules for backend in rule.balancer.backends}:
            users.setdefault(set_id, []).append(key)
    return users
