"""One route in one snapshot, as the contract has it: who may keep a session, and why one is lost.

Written from docs/persistence.md, not from the proxy's code: the two are to agree.
"""

from dataclasses import dataclass
from math import inf

KEEPING = {"Serving", "Joining"}
RETURNS = {"PodNotReady", "PodUnhealthy", "PodDisabled", "ConnectFailed"}
"""The pod lives: with failover Temporary the binding stays."""
ENDS = {"Released", "PodTerminated", "PolicyChanged", "EpochRaised", "Rebalanced", "EndpointsChanged"}
MOVED = RETURNS | ENDS
NOTICED = MOVED | {"ContainerRestarted"}
NAMES = {"Pod": "id", "StatefulPod": "stable", "Cohort": "cohort"}
"""What of a pod a binding names, where the pod has it; else its UID."""
TURNED_AWAY = {"Reject": 503, "Redirect": 302}
"""What clients get by failover modes that answer in the pod's place."""
DEADLINE = 0.5
"""Seconds by which the end of a drain may be noticed late."""

SEALED = 1.1
"""By how much longer a key lasts than its idle timer: it is sealed anew once a tenth of that has passed."""


@dataclass(frozen=True)
class View:
    endpoints: dict
    """By UID, those of the route."""
    ranks: dict
    """How good each is for a new session, the least is best; those that take none are left out."""
    weights: tuple
    """Of the backends, by their sets."""
    everywhere: frozenset
    """What a binding may name in any set of the snapshot."""
    orders: dict
    """By pod: (action, since)."""
    epoch: int
    drain: float
    hold: float
    mode: str
    bind_to: str
    learn: str
    """How the application's own key is kept; empty: the key is ours."""
    idle: float
    """Seconds after its last sealing at which a key of ours ends; inf: none is judged by it."""

    @classmethod
    def of(cls, snapshot, key):
        route = snapshot["routes"].get(key)
        if route is None:
            return None
        (rule,) = route["rules"]
        policy = rule["persistence"]
        orders = {one["pod"]: (one["action"], one["since"]) for one in route["overrides"]}
        endpoints, ranks = {}, {}
        for backend in rule["backends"]:
            for one in snapshot["endpoints"].get(backend["endpoints"], ()):
                endpoints[one["id"]] = one
                rank = _rank(one, orders.get(one["pod"], ("", 0))[0])
                if rank is not None:
                    ranks[one["id"]] = (not backend["weight"], rank)
        return cls(
            endpoints,
            ranks,
            tuple((backend["endpoints"], backend["weight"]) for backend in rule["backends"]),
            frozenset(
                _name(one, policy["bind_to"]) for found in snapshot["endpoints"].values() for one in found
            ),
            orders,
            policy["epoch"],
            policy["drain_timeout"],
            policy["failover"]["hold"],
            policy["failover"]["mode"],
            policy["bind_to"],
            policy["learn"] or "",
            inf if policy["learn"] or policy["idle_timeout"] is None else SEALED * policy["idle_timeout"],
        )

    @property
    def best(self):
        """The endpoints that take new sessions."""
        least = min(self.ranks.values(), default=None)
        return {uid for uid, rank in self.ranks.items() if rank == least}

    @property
    def choice(self):
        """All that the choice of a pod for a key depends on."""
        return frozenset(self.best), self.weights

    def name(self, uid):
        """What a binding to the pod names."""
        one = self.endpoints.get(uid)
        return uid if one is None else _name(one, self.bind_to)

    def named(self, binding):
        """The endpoints that a binding names."""
        return [one for one in self.endpoints.values() if _name(one, self.bind_to) == binding.name]

    def may_return(self, binding, reason):
        """Whether what the binding names can come back: its pod lives, or its pod's name does."""
        return reason in RETURNS or (
            reason == "PodTerminated" and self.bind_to == "StatefulPod" and binding.name != binding.uid
        )

    def reasons(self, binding, begin, end):
        """Why a request that shows this binding may go where it goes, between two moments."""
        if self.epoch > binding.epoch[1]:
            return {"EpochRaised"}
        found = {"EpochRaised"} if self.epoch > binding.epoch[0] else set()
        if begin - binding.sealed[1] > self.idle:
            return found | {"IdleTimeout"}
        if end - binding.sealed[0] > self.idle:
            found.add("IdleTimeout")
        named = self.named(binding)
        orders = [self.orders.get(one["pod"], ("", 0.0)) for one in named]
        left = [one for one, (action, _) in zip(named, orders, strict=True) if action != "Disable"]
        for action, since in orders:
            if action != "Release" or self.bind_to == "Cohort":
                continue
            if binding.bound[1] < since:
                return found | {"Released"}
            if binding.bound[0] < since:
                found.add("Released")
        if not named:
            return found | {"PolicyChanged" if binding.name in self.everywhere else "PodTerminated"}
        if not left:
            return found | {"PodDisabled"}
        return found | self._by_state(left, binding, begin, end)

    def _by_state(self, named, binding, begin, end):
        """It holds while one of those that it names keeps sessions."""
        holds, lost = False, set()
        for one in named:
            if one["state"] in KEEPING:
                keeps, loses = True, ""
            elif one["state"] == "Draining":
                deadline = one["draining_since"] + self.drain
                keeps = one["serving"] and self.drain and begin < deadline + DEADLINE
                over = not one["serving"] or not self.drain or end > deadline - DEADLINE
                loses = "PodTerminated" if over else ""
            else:
                keeps, loses = False, "PodNotReady"
            holds = holds or keeps
            lost.add(loses)
        found = set() if "" in lost else set(lost)
        if holds or (found and any(one["id"] in self.best for one in named)):
            # Nobody gains by a move where no other pod is better.
            found.add("Bound")
        began = any(one["started"] > binding.bound[0] for one in named)
        if "Bound" in found and began and self.bind_to != "Cohort":
            found.add("ContainerRestarted")
        return found


def _name(one, bind_to):
    return one[NAMES[bind_to]] or one["id"]


def _rank(one, order):
    if order == "Disable":
        return None
    if one["state"] in KEEPING and order != "Drain":
        return 0 if one["state"] == "Serving" else 1
    if not one["serving"]:
        return None
    return 4 if one["state"] == "NotReady" else 3
