"""What each proxy may do of what only the fleet as a whole can know. Pure: `lend` sends it.

A snapshot says what leases are about, the ledger what there is of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stickyroute_api.affinity import windows
from stickyroute_api.leases import Drain, Leases
from stickyroute_api.reasons import EndpointState
from stickyroute_api.shares import Lent
from stickyroute_api.snapshot import Snapshot, Version
from stickyroute_operator.ledger import Ledger, ScopeView
from stickyroute_operator.quotas import Limited, quotas
from stickyroute_operator.rebalance import Moved, Rebalanced, moves
from stickyroute_operator.uses import uses


class Place(NamedTuple):
    """Where sessions are counted."""

    scope: str
    """Its identity."""
    endpoint: str
    """`Endpoint.id`."""


@dataclass(frozen=True, slots=True)
class Draining:
    """A pod that drains."""

    places: frozenset[Place]
    since: float
    """`Endpoint.draining_since`."""
    begun: Version
    """The first snapshot that says so: proxies that serve it place no new sessions there."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """What of a snapshot leases are about."""

    version: Version | None = None
    drains: Mapping[str, Draining] = field(default_factory=dict)
    """By `namespace/pod`."""
    windows: Mapping[str, float] = field(default_factory=dict)
    """By scope, the seconds after which a session without a request ends."""
    limited: Mapping[str, Limited] = field(default_factory=dict)
    """By scope."""
    rebalanced: Mapping[str, Rebalanced] = field(default_factory=dict)
    """By scope."""

    def __bool__(self) -> bool:
        return bool(self.drains or self.limited or self.rebalanced)

    @classmethod
    def of(cls, snapshot: Snapshot, before: "Subjects") -> "Subjects":
        """Those of this snapshot; `before` are those of the one before it."""
        if snapshot.version == before.version:
            return before
        drains: dict[str, Draining] = {}
        limited: dict[str, Limited] = {}
        rebalanced: dict[str, Rebalanced] = {}
        for scope, policy, namespace, endpoints in uses(snapshot.routes, snapshot.endpoints):
            if policy.rebalance.sessions_per_minute:
                serving = frozenset(one.id for one in endpoints if one.state is EndpointState.SERVING)
                groups = rebalanced[scope].groups if scope in rebalanced else ()
                rebalanced[scope] = Rebalanced(
                    policy.rebalance.sessions_per_minute,
                    groups if serving in groups else (*groups, serving),
                )
            if policy.limits.sessions or policy.limits.requests:
                ids = {endpoint.id for endpoint in endpoints}
                known_ids = limited[scope].endpoints if scope in limited else ()
                limited[scope] = Limited(policy.limits, frozenset(ids.union(known_ids)))
            for endpoint in endpoints:
                if endpoint.state is not EndpointState.DRAINING:
                    continue
                pod = f"{namespace}/{endpoint.pod}"
                last, known = before.drains.get(pod), drains.get(pod)
                place = Place(scope, endpoint.id)
                drains[pod] = Draining(
                    places=known.places | {place} if known else frozenset({place}),
                    since=max(endpoint.draining_since, known.since if known else 0.0),
                    begun=last.begun if last else snapshot.version,
                )
        return cls(snapshot.version, drains, windows(snapshot), limited, rebalanced)

    def known(self, ledger: Ledger, proxies: Mapping[str, bool]) -> frozenset[str]:
        """The pods that drain and of which every current proxy, one at least, has told since it knows of it.

        `proxies`: by name, whether it is current.
        """
        told = [ledger.running.get(name) for name, current in proxies.items() if current]
        versions = [None if report is None else Version(report.epoch, report.revision) for report in told]
        return frozenset(
            pod
            for pod, drain in self.drains.items()
            if versions and all(version is not None and version >= drain.begun for version in versions)
        )


def share(
    template: Leases,
    subjects: Subjects,
    ledger: Ledger,
    views: Mapping[str, ScopeView],
    proxies: Mapping[str, bool],
    *,
    lent: Mapping[str, Lent],
    moved: Mapping[str, Moved],
    lent_moves: Mapping[str, Lent],
) -> dict[str, Leases]:
    """What each proxy is to be told, by its name.

    `template` carries fleet and number; `views` is the ledger merged; `proxies` says by name who is current,
    `lent` and `lent_moves` what they were told since they reported, `moved` what was moved lately by scope.
    """
    known = subjects.known(ledger, proxies)
    drains = {pod: _drain(drain, views) for pod, drain in subjects.drains.items() if pod in known}
    scopes = quotas(subjects.limited, ledger, views, proxies, lent=lent, sequence=template.sequence)
    to_move = moves(subjects.rebalanced, moved, ledger, views, lent=lent_moves, sequence=template.sequence)
    return {
        name: template.model_copy(
            update={"drains": drains, "scopes": scopes[name], "moves": to_move.get(name, {})}
        )
        for name in proxies
    }


def _drain(drain: Draining, views: Mapping[str, ScopeView]) -> Drain:
    counted = [
        view
        for scope, endpoint in drain.places
        if scope in views
        for view in views[scope].endpoints
        if view.endpoint == endpoint
    ]
    return Drain(
        sessions=sum(view.active + view.remembered for view in counted),
        # Scopes that share a Service tell of the same ones.
        requests=max((view.in_flight for view in counted), default=0),
        tunnels=sum(view.tunnels for view in counted),
        since=drain.since,
    )
