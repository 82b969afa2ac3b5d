"""The sets of endpoints that a snapshot names: the same endpoint while it is the same pod."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from stickyroute_api import snapshot
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.certificates import EndpointTls


class EndpointSet:
    """The endpoints of one `namespace/service:port`."""

    __slots__ = ("endpoints", "given", "tls")

    def __init__(
        self,
        given: tuple[snapshot.Endpoint, ...],
        tls: EndpointTls | None,
        endpoints: tuple[Endpoint, ...],
    ) -> None:
        self.given = given
        self.tls = tls
        self.endpoints = endpoints


class Taken(NamedTuple):
    sets: dict[str, EndpointSet]
    changed: list[str]
    """The keys of the sets that are new, have changed or are gone."""
    removed: tuple[Endpoint, ...]
    """The endpoints that have left."""


def take(
    given: Mapping[str, tuple[snapshot.Endpoint, ...]],
    tls: Mapping[str, EndpointTls],
    old: Mapping[str, EndpointSet],
    names: dict[bytes, int],
    now: float,
) -> Taken:
    """Take a snapshot's endpoints, the old ones where they are the same.

    `tls`: how sets are spoken to; `names`: how many endpoints may be named so, kept up to date.
    """
    changed: list[str] = []
    removed: list[Endpoint] = []
    sets: dict[str, EndpointSet] = {}
    for set_id, endpoints in given.items():
        before, terms = old.get(set_id), tls.get(set_id)
        if before is not None and same(before.given, endpoints) and same(before.tls, terms):
            sets[set_id] = before
            continue
        changed.append(set_id)
        left = {} if before is None else {_identity(endpoint): endpoint for endpoint in before.endpoints}
        if before is not None and not same(before.tls, terms):
            removed.extend(left.values())  # idle connections were made by other terms
            left = {}
        service = set_id.partition("/")[2].rpartition(":")[0]
        taken = []
        for one in endpoints:
            endpoint = left.pop((one.id, one.address, one.port), None)
            if endpoint is None:
                endpoint = Endpoint(one, service, terms, now)
                endpoint.set_id = set_id
                _count(names, endpoint.names, 1)
            else:
                before_names = endpoint.names
                endpoint.update(one, now)
                if endpoint.names != before_names:
                    _count(names, endpoint.names, 1)
                    _count(names, before_names, -1)
            taken.append(endpoint)
        removed.extend(left.values())
        sets[set_id] = EndpointSet(endpoints, terms, tuple(taken))
    for set_id in old.keys() - sets.keys():
        changed.append(set_id)
        removed.extend(old[set_id].endpoints)
    for endpoint in removed:
        _count(names, endpoint.names, -1)
    return Taken(sets, changed, tuple(removed))


def same(one: object, other: object) -> bool:
    """Equal; a delta leaves most of a snapshot the very same, which is cheap to see."""
    return one is other or one == other


def _identity(endpoint: Endpoint) -> tuple[str, str, int]:
    return endpoint.id, endpoint.address, endpoint.port


def _count(names: dict[bytes, int], found: Iterable[bytes], by: int) -> None:
    for name in found:
        names[name] = names.get(name, 0) + by
        if not names[name]:
            del names[name]
