"""Kubernetes objects to snapshot and verdicts: pure, full state in, never diffs.

    routes ──▶ front end (routes.py) ──▶ conflicts ──▶ backends ──▶ snapshot routes, endpoint sets, verdicts

Each kind of object has one front end into the internal form (`form.Compiled`); what follows knows only that.
The translation before may be handed in: parts whose inputs are the same objects are then taken from it, so
that unchanged parts keep their identity and a small change among thousands of routes costs little. The result
is the same without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Endpoint, Route, Snapshot, TokenKeys
from stickyroute_operator.objects import EndpointSlice, Key, RouteObject, Service
from stickyroute_operator.translate.assemble import Outcome, assemble
from stickyroute_operator.translate.backends import Backends
from stickyroute_operator.translate.conflicts import settle
from stickyroute_operator.translate.form import Compiled
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
    settings: Settings = field(default_factory=Settings)
    acknowledged: Mapping[str, frozenset[str]] | None = None
    """By endpoint set, the endpoints that every current proxy knows; others are Joining. None: no Joining."""
    allow_loopback: bool = False
    """Loopback addresses are wanted on a laptop, and an attack on the proxy in a cluster."""
    allow_shared_hosts: bool = False
    """Routes of several namespaces may name one host."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What a fleet should serve, and what to tell each route's author."""

    state: State
    routes: dict[str, Route]
    endpoints: dict[str, tuple[Endpoint, ...]]
    verdicts: dict[Key, RouteVerdict]
    compiled: dict[Key, Compiled] = field(repr=False)
    backends: Backends = field(repr=False)
    outcomes: dict[Key, Outcome] = field(repr=False)

    def same_content(self, other: "Translation | None") -> bool:
        """Whether a proxy would serve the same from both."""
        return other is not None and (
            self.state.fleet == other.state.fleet
            and self.state.keys == other.state.keys
            and self.state.settings == other.state.settings
            and self.routes == other.routes
            and self.endpoints == other.endpoints
        )

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
        )


def translate(state: State, previous: Translation | None = None) -> Translation:
    """The translation of `state`; never raises for what users wrote: that becomes a verdict."""
    compiled = _compile(state, previous)
    settlements = settle(compiled.values(), allow_shared_hosts=state.allow_shared_hosts)
    backends = Backends.of(state.services, state.slices, previous.backends if previous else None)
    resolve = backends.resolver(acknowledged=state.acknowledged, allow_loopback=state.allow_loopback)
    before = previous.outcomes if previous else {}
    outcomes = {
        key: assemble(form, settlements[key], resolve, before.get(key)) for key, form in compiled.items()
    }
    routes = {outcome.route.key: outcome.route for outcome in outcomes.values() if outcome.route is not None}
    endpoints: dict[str, tuple[Endpoint, ...]] = {}
    for outcome in outcomes.values():
        if outcome.route is not None:
            endpoints.update(outcome.endpoint_sets)
    return Translation(
        state=state,
        routes=routes,
        endpoints=endpoints,
        verdicts={key: outcome.verdict for key, outcome in outcomes.items()},
        compiled=compiled,
        backends=backends,
        outcomes=outcomes,
    )


def _compile(state: State, previous: Translation | None) -> dict[Key, Compiled]:
    before = previous.compiled if previous else {}
    compiled = {}
    for key in sorted(state.routes):
        route = state.routes[key]
        known = before.get(key)
        form = known if known is not None and known.source is route else compile_route(route)
        if form.class_name == state.fleet and not route.deleting:
            compiled[key] = form
    return compiled
