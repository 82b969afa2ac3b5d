"""Operator and proxy in one process: manifests in, a table in use, and what became of each route. No I/O."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Protocol, TypeVar

from stickyroute_api.affinity import AffinityReport
from stickyroute_api.snapshot import Snapshot, TokenKeys
from stickyroute_cli.manifests import Key, Manifest
from stickyroute_operator import objects
from stickyroute_operator.translate import State, Translation, translate
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.table import Table, build

NAME = "serve"
"""What this one proxy is called in its reports."""

T = TypeVar("T")


class Plane(Protocol):
    """What is needed of the data plane."""

    table: Table | None

    def apply(self, table: Table) -> None:
        """Serve by this table from now on."""


class Embedded:
    """Keeps a data plane at what the manifests say."""

    def __init__(
        self, plane: Plane, *, class_name: str, keys: TokenKeys, random: Random, started: float
    ) -> None:
        self._plane = plane
        self._state = State(fleet=class_name, keys=keys, allow_loopback=True)
        self._random = random
        self._started = started
        self._read: dict[Key, tuple[Manifest, Any]] = {}
        self.translation: Translation | None = None
        self.snapshot: Snapshot | None = None

    def take(self, manifests: Mapping[Key, Manifest], now: float) -> bool:
        """Serve these objects, which have passed their checks; whether anything changed for requests."""
        state = State(
            fleet=self._state.fleet,
            keys=self._state.keys,
            allow_loopback=True,
            routes=self._objects(manifests, "StickyRoute", objects.RouteObject.from_manifest),
            services=self._objects(manifests, "Service", objects.Service.from_manifest),
            slices=self._objects(manifests, "EndpointSlice", objects.EndpointSlice.from_manifest),
        )
        for gone in self._read.keys() - manifests.keys():
            del self._read[gone]
        before, self.translation = self.translation, translate(state, self.translation)
        if self.snapshot is not None and self.translation.same_content(before):
            return False
        revision = self.snapshot.revision + 1 if self.snapshot else 1
        snapshot = self.translation.snapshot(epoch=1, revision=revision)
        self._plane.apply(build(snapshot, self._plane.table, now, self._random))
        self.snapshot = snapshot
        return True

    def report(self, now: float) -> AffinityReport | None:
        """What is known of sessions; None before the first `take`."""
        return report(self._plane.table, NAME, self._started, now) if self._plane.table else None

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
