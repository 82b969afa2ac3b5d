"""Who gets a host, and who gets a match that two routes name.

Only routes that could be served take part, so a broken route takes nothing from another.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from stickyroute_api.reasons import ConditionReason
from stickyroute_api.snapshot import Match
from stickyroute_operator.objects import Key
from stickyroute_operator.translate.form import Compiled, Refusal

ANY_HOST = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the other routes leave to one route."""

    refusal: Refusal | None = None
    shadowed: frozenset[tuple[int, int]] = frozenset()
    """Rule and match indexes that an older holder has on every host of the route."""
    notes: tuple[str, ...] = ()
    """A sentence per match that another holds on some host."""


@dataclass(frozen=True, slots=True)
class _Holder:
    route: Key
    field: str


_FREE = Settlement()


def settle(routes: Iterable[Compiled], *, allow_shared_hosts: bool) -> dict[Key, Settlement]:
    """The settlement of every route; the same in whatever order they come."""
    owners: dict[str, Key] = {}
    holders: dict[tuple[str, object], _Holder] = {}
    settlements = {}
    for route in sorted(routes, key=lambda route: route.age):
        if route.refusal is not None:
            settlements[route.key] = Settlement(refusal=route.refusal)
            continue
        claimed = None if allow_shared_hosts else _claim(route, owners)
        if claimed is not None:
            settlements[route.key] = Settlement(refusal=claimed)
            continue
        for host in route.hosts:
            owners.setdefault(host, route.key)
        settlements[route.key] = _hold(route, holders)
    return settlements


def _claim(route: Compiled, owners: dict[str, Key]) -> Refusal | None:
    for index, host in enumerate(route.hosts):
        owner = owners.get(host)
        if owner is not None and owner[0] != route.key[0]:
            return Refusal(
                ConditionReason.HOST_CLAIMED,
                f"spec.hosts[{index}]: {host} belongs to namespace {owner[0]}, "
                f"whose route {owner[1]} is older; use another host, or move the route to that namespace",
            )
    return None


def _hold(route: Compiled, holders: dict[tuple[str, object], _Holder]) -> Settlement:
    hosts = route.hosts or (ANY_HOST,)
    shadowed, notes, total = [], [], 0
    for rule_index, rule in enumerate(route.rules):
        for match_index, match in enumerate(rule.matches):
            total += 1
            field = f"{rule.field}.matches[{match_index}]"
            meaning = _meaning(match)
            lost = {}
            for host in hosts:
                holder = holders.setdefault((host, meaning), _Holder(route.key, field))
                if holder.route != route.key or holder.field != field:
                    lost[host] = holder
            if lost:
                notes.append(_note(field, match, lost, route.key))
            if len(lost) == len(hosts):
                shadowed.append((rule_index, match_index))
    if not notes:
        return _FREE
    if len(shadowed) == total:
        return Settlement(refusal=Refusal(ConditionReason.ROUTE_CONFLICT, " ".join(notes)))
    return Settlement(shadowed=frozenset(shadowed), notes=tuple(notes))


def _note(field: str, match: Match, lost: dict[str, _Holder], route: Key) -> str:
    host, holder = next(iter(lost.items()))
    where = host or "any host"
    if holder.route == route:
        return f"{field}: {match.path} on {where} is already matched by {holder.field}; remove one of them."
    namespace, name = holder.route
    return (
        f"{field}: {match.path} on {where} is already served by the older route {namespace}/{name} "
        f"({holder.field}); change the host, path or match, or remove one of them."
    )


def _meaning(match: Match) -> object:
    """Equal for two matches that fit the same requests."""
    path = match.path
    if match.path_type == "PathPrefix":
        path = path.rstrip("/") or "/"
    headers = frozenset((header.name.lower(), header.value, header.regex) for header in match.headers)
    query = frozenset((param.name, param.value, param.regex) for param in match.query_params)
    return match.path_type, path, match.method, headers, query
