"""One route in one snapshot, as the contract has it: who may keep a session, and why one is lost.

Written from docs/persistence.md, not from the proxy's code: the two are to agree.
"""

from dataclasses import dataclass

KEEPING = {"Serving", "Joining"}
RETURNS = {"PodNotReady", "PodUnhealthy", "PodDisabled", "ConnectFailed"}
"""The pod lives: with failover Temporary the binding stays."""
ENDS = {"Released", "PodTerminated", "PolicyChanged", "EpochRaised", "Rebalanced", "EndpointsChanged"}
MOVED = RETURNS | ENDS
NOTICED = MOVED | {"ContainerRestarted"}
DEADLINE = 0.5
"""Seconds by which the end of a drain may be noticed late."""


@dataclass(frozen=True)
class View:
    endpoints: dict
    """By UID, those of the route."""
    ranks: dict
    """How good each is for a new session, the least is best; those that take none are left out."""
    weights: tuple
    """Of the backends, by their sets."""
    everywhere: frozenset
    """The UIDs in any set of the snapshot."""
    orders: dict
    """By pod: (action, since)."""
    epoch: int
    drain: float
    hold: float
    mode: str
    idle: float

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
            frozenset(one["id"] for found in snapshot["endpoints"].values() for one in found),
            orders,
            policy["epoch"],
            policy["drain_timeout"],
            policy["failover"]["hold"],
            policy["failover"]["mode"],
            policy["idle_timeout"] or 0.0,
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

    def reasons(self, binding, begin, end):
        """Why a request that shows this binding may go where it goes, between two moments."""
        if self.epoch > binding.epoch[1]:
            return {"EpochRaised"}
        found = {"EpochRaised"} if self.epoch > binding.epoch[0] else set()
        one = self.endpoints.get(binding.uid)
        action, since = self.orders.get(binding.pod, ("", 0.0))
        if one is None:
            return found | {"PolicyChanged" if binding.uid in self.everywhere else "PodTerminated"}
        if action == "Release" and binding.bound[1] < since:
            return found | {"Released"}
        if action == "Release" and binding.bound[0] < since:
            found.add("Released")
        if action == "Disable":
            return found | {"PodDisabled"}
        return found | self._by_state(one, binding, begin, end)

    def _by_state(self, one, binding, begin, end):
        found = set()
        if one["state"] in KEEPING:
            found.add("Bound")
        elif one["state"] == "Draining":
            deadline = one["draining_since"] + self.drain
            if one["serving"] and self.drain and begin < deadline + DEADLINE:
                found.add("Bound")
            if not one["serving"] or not self.drain or end > deadline - DEADLINE:
                found |= self._lost(binding.uid, "PodTerminated")
        else:
            found |= self._lost(binding.uid, "PodNotReady")
        if "Bound" in found and one["started"] > binding.bound[0]:
            found.add("ContainerRestarted")
        return found

    def _lost(self, uid, reason):
        """Nobody gains by a move where no other pod is better."""
        return {reason, "Bound"} if uid in self.best else {reason}


def _rank(one, order):
    if order == "Disable":
        return None
    if one["state"] in KEEPING and order != "Drain":
        return 0 if one["state"] == "Serving" else 1
    if not one["serving"]:
        return None
    return 4 if one["state"] == "NotReady" else 3
