"""Where the proxies are: the EndpointSlices of the fleet's control Service."""

from collections.abc import Iterable

from stickyroute_operator.objects import EndpointSlice
from stickyroute_operator.publish import ProxyAddress

CONTROL_PORT = "control"
"""The name of the Service's port."""


def proxies(slices: Iterable[EndpointSlice], namespace: str, service: str) -> dict[str, ProxyAddress]:
    """The fleet's proxies by pod name: all that exist; those that are ready count as current.

    One that is not ready, or terminating, is pushed to as well: it may still serve, or be about to.
    """
    found: dict[str, ProxyAddress] = {}
    for piece in _of(slices, namespace, service):
        port = next((number for name, number in piece.ports if name == CONTROL_PORT), None)
        if port is None:
            continue
        for entry in piece.endpoints:
            if not entry.addresses:
                continue
            name = entry.pod or entry.addresses[0]
            ready = entry.ready and not entry.terminating
            known = found.get(name)
            # A pod has an entry per address family (IPv4 sorts first), and two while it changes slices.
            if known is None or (ready and not known.ready):
                found[name] = ProxyAddress(host=entry.addresses[0], port=port, ready=ready)
    return found


def zones(slices: Iterable[EndpointSlice], namespace: str, service: str) -> dict[str, str]:
    """The zone of each proxy by pod name, where the cluster tells one."""
    return {
        entry.pod: entry.zone
        for piece in _of(slices, namespace, service)
        for entry in piece.endpoints
        if entry.pod and entry.zone
    }


def _of(slices: Iterable[EndpointSlice], namespace: str, service: str) -> list[EndpointSlice]:
    ours = (piece for piece in slices if (piece.namespace, piece.service) == (namespace, service))
    return sorted(ours, key=lambda piece: (piece.address_type, piece.name))
