"""Which bindings to one endpoint have ended, where that concerns all of them: what is open by them ends too.

Without sessions it is the same: what is open there is as if it were bound. Each cause is one that moves a
session with its next request. That a pod is not ready is none: it may be a moment's matter, and who talks to
the pod already sees for himself.
"""

from itertools import chain
from math import inf
from typing import NamedTuple

from stickyroute_api.reasons import BindingReason, EndpointState
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.scope import Scope


class End(NamedTuple):
    """An end of bindings."""

    before: float
    """Of those made before then (Unix seconds); inf: of all."""
    reason: BindingReason


def end(scope: Scope, endpoint: Endpoint, epoch: int, now: float) -> End | None:
    """The end of bindings to the endpoint that were made under a policy of that epoch; None: they hold."""
    order = next((one for one in scope.overrides if one.pod == endpoint.pod), None)
    if order is not None and order.action == "Disable":
        return End(inf, BindingReason.POD_DISABLED)
    # Asked for each endpoint in turn: that of its own name is found at once.
    shared = scope.named.get(scope.name(endpoint), ())
    if all(one.key != endpoint.key for one in chain(shared, scope.endpoints)):
        lives = endpoint.key in scope.pods
        return End(inf, BindingReason.POLICY_CHANGED if lives else BindingReason.POD_TERMINATED)
    if epoch < scope.policy.epoch:
        return End(inf, BindingReason.EPOCH_RAISED)
    if endpoint.unhealthy or endpoint.state is EndpointState.DRAINING:
        over = now >= endpoint.kept_until(scope.policy.drain_timeout)
        if over and not scope.is_last_resort(endpoint):
            return End(inf, endpoint.loss)
    since = scope.released.get(scope.name(endpoint))
    return None if since is None else End(since, BindingReason.RELEASED)
