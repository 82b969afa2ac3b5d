"""Fields of the spec that this version does not serve: refused by name, never silently inert."""

from collections.abc import Iterator
from typing import Any

from stickyroute_api.duration import parse_duration
from stickyroute_api.spec import LoadBalancing, Persistence, StickyRouteSpec

_ALGORITHMS = ("RoundRobin", "LeastRequests")
_PERSISTENCE = ("Cookie", "None")


def unsupported(spec: StickyRouteSpec) -> Iterator[str]:
    """A message per field that is set to something this version does not do."""
    yield from _absent("spec.tls", spec.tls, "HTTPS is not terminated by this version")
    yield from _load_balancing("spec.loadBalancing", spec.load_balancing)
    yield from _persistence("spec.persistence", spec.persistence)
    for index, rule in enumerate(spec.rules):
        if rule.persistence is not None:
            yield from _persistence(f"spec.rules[{index}].persistence", rule.persistence)
    yield from _absent(
        "spec.healthCheck", spec.health_check, "this version follows the pods' own readiness probes"
    )
    yield from _absent("spec.overrides", spec.overrides or None, "overrides are not served by this version")


def _load_balancing(path: str, wanted: LoadBalancing) -> Iterator[str]:
    yield from _one_of(f"{path}.algorithm", wanted.algorithm, _ALGORITHMS)
    yield from _absent(f"{path}.hashOn", wanted.hash_on, "hashing is not served by this version")
    yield from _zero(f"{path}.slowStart", wanted.slow_start)


def _persistence(path: str, wanted: Persistence) -> Iterator[str]:
    yield from _one_of(f"{path}.type", wanted.type, _PERSISTENCE)
    yield from _one_of(f"{path}.bindTo", wanted.bind_to, ("Pod",))
    yield from _absent(f"{path}.learn", wanted.learn, "learned keys are not served by this version")
    failover = wanted.failover
    yield from _one_of(f"{path}.failover.mode", failover.mode, ("Repin",))
    yield from _zero(f"{path}.failover.hold", failover.hold)
    yield from _one_of(f"{path}.failover.status", failover.status, (503,))
    yield from _one_of(f"{path}.failover.redirectURL", failover.redirect_url, ("",))
    yield from _zero(f"{path}.drainTimeout", wanted.drain_timeout)
    yield from _one_of(f"{path}.limits.maxSessionsPerPod", wanted.limits.max_sessions_per_pod, (0,))
    yield from _one_of(f"{path}.limits.maxRequestsPerPod", wanted.limits.max_requests_per_pod, (0,))


def _one_of(path: str, value: Any, served: tuple[Any, ...]) -> Iterator[str]:
    if value not in served:
        if served in ((0,), ("",)):
            yield f"{path}: is not served by this version; remove it"
        else:
            choices = " or ".join(str(choice) for choice in served)
            yield f"{path}: {value} is not served by this version; use {choices}"


def _zero(path: str, value: str) -> Iterator[str]:
    if parse_duration(value) != 0:
        yield f"{path}: {value} is not served by this version; remove it or set it to 0s"


def _absent(path: str, value: object, why: str) -> Iterator[str]:
    if value is not None:
        yield f"{path}: {why}; remove it"
