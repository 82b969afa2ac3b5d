"""The epoch: how often this fleet's operator has taken over, kept in one Lease.

Every start raises the Lease's `leaseTransitions`, guarded by its resourceVersion, so that no two starts have
one epoch, and a proxy can tell an operator that was replaced from the one that replaced it.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from stickyroute_operator.cluster import CONFLICT, LEASES, ApiError, Resource


class LeaseStore(Protocol):
    """What of the API this needs; `cluster.Cluster` has it."""

    async def read(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]: ...

    async def replace(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]: ...


class Superseded(Exception):  # noqa: N818 - a state of affairs
    """Another operator holds the Lease: this one must push no more."""


async def raise_epoch(
    leases: LeaseStore,
    namespace: str,
    name: str,
    holder: str,
    *,
    now: Callable[[], datetime],
    above: int = 0,
    must_hold: bool = False,
) -> int:
    """Takes the next epoch and returns it: higher than the Lease's and than `above`.

    Raises ApiError when the Lease cannot be read or written and, with `must_hold`, Superseded when it is
    another's by now; a concurrent change is read anew.
    """
    while True:
        lease = await leases.read(LEASES, namespace, name)
        spec = lease.get("spec") or {}
        if must_hold and spec.get("holderIdentity") != holder:
            raise Superseded(f"{spec.get('holderIdentity')} has taken Lease {namespace}/{name}: giving up")
        epoch = max(int(spec.get("leaseTransitions") or 0), above) + 1
        moment = now().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        lease["spec"] = spec | {
            "holderIdentity": holder,
            "leaseTransitions": epoch,
            "acquireTime": moment,
            "renewTime": moment,
        }
        try:
            await leases.replace(LEASES, lease)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
        else:
            return epoch
