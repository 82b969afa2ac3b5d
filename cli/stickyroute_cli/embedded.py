"""Operator and proxy in one process: manifests in, a table in use, and what became of each route. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, Final, Literal, Protocol, TypeVar

from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Snapshot, TokenKeys
from stickyroute_api.status import StickyRouteStatus
from stickyroute_cli.manifests import Key, Manifest
from stickyroute_operator import events, objects, status
from stickyroute_operator.ledger import Ledger, ScopeView, merge
from stickyroute_operator.pods import Pod
from stickyroute_operator.reconcile import Acked, Carried
from stickyroute_operator.translate import State, Translation, translate
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.slices import at_once
from stickyroute_proxy.table import Table, build

NAME: Final = "serve"
"""What the one proxy is called."""
EPOCH: Final = 1
"""Of all snapshots: they live and die with the process."""

REFERENT_KINDS: Final[tuple[Literal["Secret", "ConfigMap"], ...]] = ("Secret", "ConfigMap")
"""What routes may name beside Services."""

T = TypeVar("T")


class Plane(Protocol):
    """What is needed of the data plane."""

    table: Table | None

    def apply(self, table: Table) -> None:
        """Serve by this table from now on."""


@dataclass(frozen=True, slots=True)
class News:
    """An event of a route."""

    route: str
    """`namespace/name`."""
    event: events.Event


class Embedded:
    """Keeps a data plane at what the manifests say."""

    def __init__(
        self,
        plane: Plane,
        *,
        class_name: str,
        keys: TokenKeys,
        random: Random,
        started: float,
        settings: Settings | None = None,
    ) -> None:
        self._plane = plane
        self._state = State(
            fleet=class_name, keys=keys, alone=True, allow_loopback=True, settings=settings or Settings()
        )
        self._random = random
        self._started = started
        self._read: dict[Key, tuple[Manifest, Any]] = {}
        self._refusal = ""
        self.translation: Translation | None = None
        self.snapshot: Snapshot | None = None
        """The last one wanted; what is served is the plane's."""
        self.statuses: dict[str, StickyRouteStatus] = {}
        """By `namespace/name`, as of the last `look`."""

    def take(self, manifests: Mapping[Key, Manifest], now: float) -> bool:
        """Serve these objects, which have passed their checks; whether anything changed for requests.

        What a proxy would refuse leaves the last table in use, and the routes' status says so.
        """
        state = replace(
            self._state,
            now=datetime.fromtimestamp(now, UTC),
            routes=self._objects(manifests, "StickyRoute", objects.RouteObject.from_manifest),
            services=self._objects(manifests, "Service", objects.Service.from_manifest),
            slices=self._objects(manifests, "EndpointSlice", objects.EndpointSlice.from_manifest),
            pods=self._objects(manifests, "Pod", Pod.from_manifest),
            before=self.translation.endpoints if self.translation is not None else {},
            referents={
                objects.Reference(kind, *key): found
                for kind in REFERENT_KINDS
                for key, found in self._objects(manifests, kind, partial(objects.referent, kind)).items()
            },
        )
        for gone in self._read.keys() - manifests.keys():
            del self._read[gone]
        before, self.translation = self.translation, translate(state, self.translation)
        if self.snapshot is not None and self.translation.same_content(before):
            return False
        self.snapshot = self.translation.snapshot(
            epoch=EPOCH, revision=self.snapshot.revision + 1 if self.snapshot else 1
        )
        try:
            self._plane.apply(build(self.snapshot, self._plane.table, now, self._random))
        except ValueError as error:
            self._refusal = str(error)
        else:
            self._refusal = ""
        return True

    def look(self, now: float) -> list[News]:
        """Bring `statuses` up to date with objects and sessions; what happened since the last look."""
        if self.translation is None or self.snapshot is None:
            return []
        views = self._views(now)
        table = self._plane.table
        proxy = Acked(
            name=NAME,
            ready=True,
            version=table.version if table else None,
            error=self._refusal or None,
            is_refusal=bool(self._refusal),
        )
        wanted = self.snapshot.version
        statuses: dict[str, StickyRouteStatus] = {}
        news: list[News] = []
        for key, verdict in self.translation.verdicts.items():
            route = "/".join(key)
            before = self.statuses.get(route)
            seen = status.Seen(
                verdict=verdict,
                carried=Carried(wanted, wanted) if route in self.snapshot.routes else None,
                proxies=(proxy,),
                scopes=tuple(views[scope] for scope in verdict.scopes if scope in views),
                counted_since=self._started,
            )
            after = statuses[route] = status.build(seen, before, datetime.fromtimestamp(now, UTC))
            news += [News(route, event) for event in events.events(before, after)]
            if fresh := events.ends(after.sessions) - events.ends(before.sessions if before else None):
                news.append(News(route, events.ended(fresh)))
        self.statuses = statuses
        return news

    def _views(self, now: float) -> dict[str, ScopeView]:
        table = self._plane.table
        if table is None:
            return {}
        return merge(Ledger().add(at_once(report(table, NAME, self._started, now))))

    def foreign(self) -> list[str]:
        """Routes of another class, which this process does not serve: `namespace/name`."""
        if self.translation is None:
            return []
        ours = self.translation.verdicts
        return sorted("/".join(key) for key in self.translation.state.routes if key not in ours)

    def _objects(
        self, manifests: Mapping[Key, Manifest], kind: str, read: Callable[[Mapping[str, Any]], T]
    ) -> dict[objects.Key, T]:
        """The objects of a kind; the same ones as before where the manifest is the same."""
        found: dict[objects.Key, T] = {}
        for key, manifest in manifests.items():
            if key.kind != kind:
                continue
            known = self._read.get(key)
            if known is None or known[0] is not manifest:
                known = self._read[key] = (manifest, read(manifest.body))
            found[key.namespace, key.name] = known[1]
        return found
