"""The operator's own copy of the cluster: what watches say, set right by every LIST.

kopf loses deletions after a 410, and watches can die in silence, so nothing else is trusted: `replace_all`
with a LIST is the truth. A LIST is as old as its resourceVersion, though, and a watch may be ahead of it or
behind it: the higher resourceVersion of a kind wins.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol, Self

from stickyroute_api.spec import KIND
from stickyroute_operator.objects import EndpointSlice, Key, RouteObject, Service
from stickyroute_operator.pods import Pod

logger = logging.getLogger(__name__)

ROUTES: Final = KIND
SERVICES: Final = "Service"
SLICES: Final = "EndpointSlice"
PODS: Final = "Pod"


class _Object(Protocol):
    @property
    def key(self) -> Key: ...

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self: ...


TYPES: Final[Mapping[str, type[_Object]]] = {
    ROUTES: RouteObject,
    SERVICES: Service,
    SLICES: EndpointSlice,
    PODS: Pod,
}


class _Shelf:
    """All objects of one kind."""

    def __init__(self) -> None:
        self.objects: dict[Key, Any] = {}
        self.versions: dict[Key, int] = {}
        """Of the objects, and of those deleted since the last LIST."""
        self.floors: dict[str, int] = {}
        """By namespace, or `""` for all: the last LIST's version. What is older is in it already."""


class Store:
    """Routes, Services, EndpointSlices and Pods by namespace and name.

    `namespaces` are those that LISTs bring one by one; empty: they bring all at once.
    `changed` is called with the kind whenever something that matters to routing is new; events that repeat
    what is known, as every resync brings, are none, nor are those of objects that `heeds` does not heed.
    """

    def __init__(
        self,
        changed: Callable[[str], None] = lambda _kind: None,
        namespaces: Collection[str] = (),
        heeds: Callable[[str, Key], bool] = lambda _kind, _key: True,
    ) -> None:
        self.changed = changed
        self._heeds = heeds
        self._namespaces = frozenset(namespaces) or {""}
        self._shelves = {kind: _Shelf() for kind in TYPES}

    @property
    def routes(self) -> Mapping[Key, RouteObject]:
        return self._shelves[ROUTES].objects

    @property
    def services(self) -> Mapping[Key, Service]:
        return self._shelves[SERVICES].objects

    @property
    def slices(self) -> Mapping[Key, EndpointSlice]:
        return self._shelves[SLICES].objects

    @property
    def pods(self) -> Mapping[Key, Pod]:
        return self._shelves[PODS].objects

    @property
    def listed(self) -> bool:
        """Whether every kind was listed everywhere: before that nothing may be published."""
        return all(self._namespaces <= shelf.floors.keys() for shelf in self._shelves.values())

    def take(self, kind: str, event: str, manifest: Mapping[str, Any]) -> None:
        """Takes an event as a watch shows it."""
        if event == "DELETED":
            self.delete(kind, manifest)
        else:
            self.upsert(kind, manifest)

    def upsert(self, kind: str, manifest: Mapping[str, Any]) -> None:
        """Takes an object as a watch shows it, unless something newer is known."""
        shelf = self._shelves[kind]
        item = _read(kind, manifest)
        if item is None or not self._is_news(shelf, item.key, version := _version(manifest)):
            return
        shelf.versions[item.key] = version
        if _put(shelf, item) and self._heeds(kind, item.key):
            self.changed(kind)

    def delete(self, kind: str, manifest: Mapping[str, Any]) -> None:
        """Takes a deletion as a watch shows it, unless something newer is known."""
        shelf = self._shelves[kind]
        item = _read(kind, manifest)
        if item is None or not self._is_news(shelf, item.key, version := _version(manifest)):
            return
        shelf.versions[item.key] = version
        if shelf.objects.pop(item.key, None) is not None and self._heeds(kind, item.key):
            self.changed(kind)

    def replace_all(
        self,
        kind: str,
        manifests: Iterable[Mapping[str, Any]],
        resource_version: str | int = 0,
        namespace: str = "",
    ) -> bool:
        """Takes a complete LIST, of one namespace or of all; what it lacks is gone. Whether it brought news.

        Only what a watch has shown since, with a higher resourceVersion, stays.
        """
        shelf = self._shelves[kind]
        floor = _number(resource_version)
        seen, news = set(), namespace not in shelf.floors
        for manifest in manifests:
            item = _read(kind, manifest)
            if item is None:
                continue
            seen.add(item.key)
            if floor and shelf.versions.get(item.key, 0) > floor:
                continue
            shelf.versions[item.key] = _version(manifest)
            news |= _put(shelf, item)
        for key in [key for key in shelf.objects if key not in seen and namespace in ("", key[0])]:
            if not floor or shelf.versions.get(key, 0) <= floor:
                del shelf.objects[key]
                news = True
        for key in [key for key in shelf.versions if key not in shelf.objects]:
            if namespace in ("", key[0]) and shelf.versions[key] <= floor:
                del shelf.versions[key]
        shelf.floors[namespace] = floor
        if news:
            self.changed(kind)
        return news

    @staticmethod
    def _is_news(shelf: _Shelf, key: Key, version: int) -> bool:
        if not version:
            return True
        floor = shelf.floors.get("", shelf.floors.get(key[0], 0))
        return version > floor and version >= shelf.versions.get(key, 0)


def _put(shelf: _Shelf, item: Any) -> bool:
    """Whether it differs from what is known; if not, the known object stays, and with it all made of it."""
    known = shelf.objects.get(item.key)
    if known == item:
        return False
    shelf.objects[item.key] = item
    return True


def _read(kind: str, manifest: Mapping[str, Any]) -> Any:
    try:
        return TYPES[kind].from_manifest(manifest)
    except (ValueError, TypeError, AttributeError) as error:
        # The API server lets no such object in: whatever it is, it must not stop the others.
        logger.warning("an object of kind %s is left out: %s", kind, error)
        return None


def _version(manifest: Mapping[str, Any]) -> int:
    return _number((manifest.get("metadata") or {}).get("resourceVersion"))


def _number(version: Any) -> int:
    """A resourceVersion as the number that it is; 0: unknown."""
    try:
        return int(version)
    except (TypeError, ValueError):
        return 0
