"""Rules: what requests belong to, and where the bindings of their scope may lead them."""

from collections.abc import Collection
from random import Random
from typing import Any

from stickyroute_proxy.affinity.algorithm import Turn
from stickyroute_proxy.affinity.balance import Balancer, standing
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.scope import Named, Scope
from stickyroute_proxy.bounds import Limits, Timeouts
from stickyroute_proxy.changes import UNCHANGED, Changes


class Rule:
    """One rule of a route; the same object for as long as the route is served and names it."""

    __slots__ = (
        "attempts",
        "balancer",
        "changes",
        "cohorts",
        "counter",
        "limits",
        "members",
        "name",
        "named",
        "notify_header",
        "own",
        "route",
        "scope",
        "timeouts",
    )

    name: str
    route: str
    """`namespace/name`."""
    scope: Scope
    timeouts: Timeouts
    attempts: int
    """How often what took no connection is tried again."""
    limits: Limits
    notify_header: bytes
    """In lower case."""
    changes: Changes
    """What it changes in requests and answers, and where it redirects."""
    balancer: Balancer
    own: Named
    """The endpoints of its backends."""
    named: Named
    """Those and the other endpoints of its scope: where a binding may lead."""
    members: dict[bytes, Endpoint]
    """The best of each name; empty where names are those of cohorts."""
    cohorts: dict[bytes, Turn]
    """The best of each cohort, all of which serve its sessions; empty where names are those of pods."""
    counter: Any
    """Where the data path counts its exchanges; None until there was one."""

    def __init__(self, name: str, route: str) -> None:
        self.name = name
        self.route = route
        self.counter = None
        self.balancer = Balancer()
        self.changes = UNCHANGED
        self.own = self.named = {}
        self.members = {}
        self.cohorts = {}

    def follow(self, named: Named, now: float, random: Random) -> None:
        """Let bindings lead to these endpoints."""
        self.named = named
        if self.scope.policy.bind_to != "Cohort":
            self.members = {name: endpoints[0] for name, endpoints in named.items()}
            self.cohorts = {}
            return
        self.members = {}
        before = self.cohorts
        self.cohorts = {}
        orders = self.balancer.orders
        for name, endpoints in named.items():
            turn = self.cohorts[name] = before.get(name) or Turn((), random)
            ranks = [(standing(one, orders.get(one.pod, ""), now), one) for one in endpoints]
            best = min((rank for rank, one in ranks if rank is not None and one.keep_until), default=None)
            turn.endpoints = tuple(one for rank, one in ranks if rank == best and one.keep_until)

    def of_cohort(
        self, name: bytes, now: float, random: Random, tried: Collection[Endpoint] = ()
    ) -> Endpoint | None:
        """The endpoint of a cohort whose turn it is, by the rule's algorithm; None: none keeps sessions."""
        turn = self.cohorts.get(name)
        if turn is None:
            return None
        if not turn.endpoints or tried:
            drain = self.scope.policy.drain_timeout
            left = [one for one in self.named[name] if one not in tried and now < one.kept_until(drain)]
            if not left:
                return None
            turn = Turn(tuple(left), random)
        return self.balancer.algorithm(turn, random)
