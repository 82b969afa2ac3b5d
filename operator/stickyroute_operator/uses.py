"""Which endpoints the rules of what is published use. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from stickyroute_api.snapshot import Endpoint, Persistence, Route


class Use(NamedTuple):
    """One set of endpoints, as a rule uses it."""

    scope: str
    """The rule's scope identity."""
    policy: Persistence
    namespace: str
    """The pods'."""
    endpoints: tuple[Endpoint, ...]


def uses(routes: Mapping[str, Route], endpoints: Mapping[str, tuple[Endpoint, ...]]) -> Iterator[Use]:
    """Each use: by several rules, of several routes, one set has as many."""
    for route in routes.values():
        for rule in route.rules:
            scope = f"{route.key}/{rule.scope}"
            for backend in rule.backends:
                namespace = backend.endpoints.partition("/")[0]
                yield Use(scope, rule.persistence, namespace, endpoints.get(backend.endpoints, ()))
