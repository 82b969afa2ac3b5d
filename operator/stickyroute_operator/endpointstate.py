"""What each endpoint of a route takes now: by Kubernetes, the route's overrides and what proxies find."""

from collections.abc import Iterable
from dataclasses import dataclass

from stickyroute_api.reasons import EndpointState
from stickyroute_api.snapshot import Endpoint
from stickyroute_operator.ledger import Finding, ScopeView
from stickyroute_operator.translate import RouteVerdict

_TAKES_NEW = frozenset({EndpointState.SERVING, EndpointState.JOINING})


@dataclass(frozen=True, slots=True)
class EndpointNow:
    service: str
    endpoint: Endpoint
    state: EndpointState
    found_by: str
    """How many proxies find it so, of those asked; empty: it is so for all."""
    takes: bool
    """New sessions, through one proxy at least."""
    restarts: int
    sessions: int
    requests: int


def present(verdict: RouteVerdict, scopes: Iterable[ScopeView]) -> list[EndpointNow]:
    """All endpoints of a route, each once for each Service, in order of names."""
    sessions: dict[tuple[str, str], int] = {}
    requests: dict[tuple[str, str], int] = {}
    findings: dict[str, Finding] = {}
    for view in scopes:
        for one in view.endpoints:
            place = one.service, one.endpoint
            sessions[place] = sessions.get(place, 0) + one.active
            requests[place] = requests.get(place, 0) + one.in_flight
            if one.found is not None:
                known = findings.get(one.endpoint, one.found)
                findings[one.endpoint] = min(known, one.found, key=lambda found: found.rank)
    orders = {override.pod: override.action for override in verdict.overrides}
    restarts = {pod.uid: pod.restarts for pod in verdict.pods}
    shown = []
    for service, endpoint in verdict.endpoints:
        place = service, endpoint.id
        found = findings.get(endpoint.id)
        state = _state(endpoint, orders.get(endpoint.pod), found)
        is_found = found is not None and state is found.state
        shown.append(
            EndpointNow(
                service=service,
                endpoint=endpoint,
                state=state,
                found_by=f"{found.proxies}/{found.asked}" if found is not None and is_found else "",
                takes=state in _TAKES_NEW or (found is not None and is_found and found.proxies < found.asked),
                restarts=restarts.get(endpoint.id, 0),
                sessions=sessions.get(place, 0),
                requests=requests.get(place, 0),
            )
        )
    return shown


def _state(endpoint: Endpoint, order: str | None, found: Finding | None) -> EndpointState:
    """What is ordered comes before what is so, and that before what proxies find."""
    if order == "Disable":
        return EndpointState.DISABLED
    if order == "Drain":
        return EndpointState.DRAINING
    if found is not None and endpoint.state in _TAKES_NEW:
        return found.state
    return endpoint.state
