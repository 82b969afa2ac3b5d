"""Kubernetes objects to snapshot and verdicts: pure, full state in, never diffs.

    routes ──▶ front end (routes.py) ──▶ conflicts ──▶ backends, referents ──▶ snapshot parts, verdicts

Each kind of object has one front end into the internal form (`form.Compiled`); what follows knows only that.
The translation before may be handed in: parts whose inputs are the same objects are then taken from it, so
that unchanged parts keep their identity and a small change among thousands of routes costs little. The result
is the same without it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import (
    BackendTls,
    Certificate,
    Endpoint,
    HealthCheck,
    Route,
    Snapshot,
    TokenKeys,
)
from stickyroute_operator.objects import EndpointSlice, Key, Reference, Referent, RouteObject, Service
from stickyroute_operator.pods import Pod
from stickyroute_operator.translate.assemble import Outcome, assemble, held
from stickyroute_operator.translate.backends import Backends, Moment
from stickyroute_operator.translate.conflicts import settle
from stickyroute_operator.translate.cookies import conflicts
from stickyroute_operator.translate.form import Compiled
from stickyroute_operator.translate.referents import Referents, ServerCertificate
from stickyroute_operator.translate.routes import compile_route
from stickyroute_operator.translate.verdicts import RouteVerdict, Verdict

__all__ = ["RouteVerdict", "State", "Translation", "Verdict", "translate"]


@dataclass(frozen=True, kw_only=True)
class State:
    """All that a translation depends on."""

    fleet: str
    """The class name whose routes are ours; others get neither snapshot nor status."""
    keys: TokenKeys
    routes: Mapping[Key, RouteObject] = field(default_factory=dict)
    services: Mapping[Key, Service] = field(default_factory=dict)
    slices: Mapping[Key, EndpointSlice] = field(default_factory=dict)
    pods: Mapping[Key, Pod] = field(default_factory=dict)
    before: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """The endpoint sets as they were published last: what began there, such as a drain, goes on."""
    referents: Mapping[Reference, Referent] = field(default_factory=dict)
    """The Secrets and ConfigMaps that routes name."""
    on_demand: bool = False
    """They are read when first named: what `referents` lacks is on its way. Else it does not exist."""
    now: datetime | None = None
    """What certificates' ends are compared to, and drains begin at. None: they are not looked at."""
    settings: Settings = field(default_factory=Settings)
    awaited: Mapping[str, float] | None = None
    """By UID, since when pods that slices name are awaited (Unix seconds). None: none is on its way."""
    acknowledged: Mapping[str, frozenset[str]] | None = None
    """By endpoint set, the endpoints that every current proxy knows; others are Joining. None: no Joining."""
    allow_loopback: bool = False
    """Loopback addresses are wanted on a laptop, and an attack on the proxy in a cluster."""
    allow_shared_hosts: bool = False
    """Routes of several namespaces may name one host."""
    may_cost: bool = True
    """Pods may be given a deletion cost."""
    alone: bool = False
    """A proxy serves without an operator: what only that does is refused."""


@dataclass(frozen=True, slots=True)
class _Cookies:
    """Which routes' cookies meet those of older ones, and what that was found from."""

    routes: list[Compiled]
    conflicts: dict[Key, Verdict]


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What a fleet should serve, and what to tell each route's author."""

    state: State
    routes: dict[str, Route]
    endpoints: dict[str, tuple[Endpoint, ...]]
    certificates: dict[str, ServerCertificate] = field(repr=False)
    """By `namespace/name` of their Secrets."""
    backend_tls: dict[str, BackendTls]
    health: dict[str, HealthCheck]
    """By endpoint set."""
    verdicts: dict[Key, RouteVerdict]
    compiled: dict[Key, Compiled] = field(repr=False)
    backends: Backends = field(repr=False)
    cookies: "_Cookies" = field(repr=False)
    outcomes: dict[Key, Outcome] = field(repr=False)

    @property
    def until(self) -> float:
        """Unix seconds: when it changes though no object does; inf: never."""
        return self.backends.until

    @property
    def awaited(self) -> dict[str, float]:
        """By UID, the pods that endpoints wait for, and since when: the next state's."""
        return self.backends.awaited

    @cached_property
    def pods(self) -> frozenset[Key]:
        """Those that it depends on, known or not."""
        return frozenset(self.backends.pods())

    @property
    def references(self) -> frozenset[Reference]:
        """All that routes name."""
        return frozenset(one for form in self.compiled.values() for one in form.references())

    def same_content(self, other: "Translation | None") -> bool:
        """Whether a proxy would serve the same from both."""
        return other is not None and (
            self.state.fleet == other.state.fleet
            and self.state.keys == other.state.keys
            and self.state.settings == other.state.settings
            and self.routes == other.routes
            and self.endpoints == other.endpoints
            and self.backend_tls == other.backend_tls
            and self.health == other.health
            and self.certificate_parts() == other.certificate_parts()
        )

    def certificate_parts(self) -> dict[str, Certificate]:
        """The certificates as proxies get them."""
        return {key: certificate.part for key, certificate in self.certificates.items()}

    def snapshot(self, epoch: int, revision: int) -> Snapshot:
        """The snapshot of this content under a number.

        Its parts were validated one by one when they were built, and are shared, not copied.
        """
        return Snapshot.model_construct(
            format=1,
            fleet=self.state.fleet,
            epoch=epoch,
            revision=revision,
            settings=self.state.settings,
            keys=self.state.keys,
            routes=self.routes,
            endpoints=self.endpoints,
            certificates=self.certificate_parts(),
            backend_tls=self.backend_tls,
            health=self.health,
        )


def translate(state: State, previous: Translation | None = None) -> Translation:
    """The translation of `state`; never raises for what users wrote: that becomes a verdict."""
    compiled = _compile(state, previous)
    settlements = settle(compiled.values(), allow_shared_hosts=state.allow_shared_hosts)
    referents = Referents.of(state.referents, previous.backends.referents if previous else None)
    backends = Backends.of(state.services, state.slices, referents, previous.backends if previous else None)
    resolve = backends.resolver(
        Moment(
            now=state.now.timestamp() if state.now is not None else 0.0,
            pods=state.pods,
            before=state.before,
            drains=_drains(compiled.values()),
            named=_named(compiled.values()),
            awaited=state.awaited,
            acknowledged=state.acknowledged,
            allow_loopback=state.allow_loopback,
        )
    )
    before = previous.outcomes if previous else {}
    cookies = _cookies([form for key, form in compiled.items() if not settlements[key].refusal], previous)
    outcomes = {}
    for key, form in compiled.items():
        if state.on_demand and any(one not in state.referents for one in form.references()):
            # A moment only; what is served of the route until then stays as it is.
            outcomes[key] = before.get(key) or held(form, settlements[key])
            continue
        tls = referents.serve(form.tls, form.hosts, state.now) if form.tls is not None else None
        outcomes[key] = assemble(
            form, settlements[key], resolve, before.get(key), tls=tls, conflict=cookies.conflicts.get(key)
        )
    return _translation(state, compiled, backends, cookies, outcomes)


def _cookies(served: list[Compiled], previous: Translation | None) -> _Cookies:
    if previous is not None and served == previous.cookies.routes:  # for the most part the same objects
        return previous.cookies
    return _Cookies(served, conflicts(served))


def _drains(routes: Iterable[Compiled]) -> dict[Key, float]:
    """By Service, the longest drain of the rules that use it."""
    drains: dict[Key, float] = {}
    for form in routes:
        for rule in form.rules:
            if longest := rule.persistence.drain_timeout:
                for use in rule.backends:
                    key = form.source.namespace, use.service
                    drains[key] = max(longest, drains.get(key, 0.0))
    return drains


def _named(routes: Iterable[Compiled]) -> frozenset[Key]:
    """The Services in whose scopes bindings name what only a pod tells of itself."""
    return frozenset(
        (form.source.namespace, use.service)
        for form in routes
        for rule in form.rules
        if rule.persistence.bind_to != "Pod"
        for use in rule.backends
    )


def _translation(
    state: State,
    compiled: dict[Key, Compiled],
    backends: Backends,
    cookies: "_Cookies",
    outcomes: dict[Key, Outcome],
) -> Translation:
    served = [outcome for outcome in outcomes.values() if outcome.route is not None]
    endpoints: dict[str, tuple[Endpoint, ...]] = {}
    for outcome in served:
        endpoints.update(outcome.endpoint_sets)
    return Translation(
        state=state,
        routes={outcome.route.key: outcome.route for outcome in served if outcome.route is not None},
        endpoints=endpoints,
        certificates=dict(_certificates(served)),
        backend_tls={
            one.key: one.tls for outcome in served for one in outcome.resolved if one.key and one.tls
        },
        health={
            one.key: one.health for outcome in served for one in outcome.resolved if one.key and one.health
        },
        verdicts={key: outcome.verdict for key, outcome in outcomes.items()},
        compiled=compiled,
        backends=backends,
        cookies=cookies,
        outcomes=outcomes,
    )


def _certificates(served: Iterable[Outcome]) -> Iterable[tuple[str, ServerCertificate]]:
    for outcome in served:
        use, tls = outcome.form.tls, outcome.tls
        if use is not None and tls is not None and tls.certificate is not None:
            yield use.certificate.key, tls.certificate


def _compile(state: State, previous: Translation | None) -> dict[Key, Compiled]:
    has_store = bool(state.settings.store.address)
    before = (
        previous.compiled if previous and bool(previous.state.settings.store.address) == has_store else {}
    )
    compiled = {}
    for key in sorted(state.routes):
        route = state.routes[key]
        known = before.get(key)
        form = (
            known
            if known is not None and known.source is route
            else compile_route(route, has_store=has_store, may_cost=state.may_cost, alone=state.alone)
        )
        if form.class_name == state.fleet and not route.deleting:
            compiled[key] = form
    return compiled
