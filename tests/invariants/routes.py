"""The routes of a run, their Services, and what of both a client has to know."""

SERVICES = {
    "shop": {"web": 4, "canary": 2},
    "desk": {"desk": 3},
    "lounge": {"lounge": 3},
    "rooms": {"rooms": 4},
    "quiet": {"quiet": 3},
    "badge": {"badge": 3},
    "wallet": {"wallet": 3},
    "gate": {"gate": 3},
    "troop": {"troop": 3},
    "rows": {"rows": 3},
    "vault": {"vault": 3},
    "chat": {"chat": 3},
}
"""By route, the Services behind it and how many pods each begins with."""
SHARES = {
    "shop": 40,
    "desk": 15,
    "lounge": 20,
    "rooms": 15,
    "quiet": 10,
    "badge": 12,
    "wallet": 15,
    "gate": 10,
    "troop": 12,
    "rows": 12,
    "vault": 18,
    "chat": 15,
}
"""Sessions by route: weights, of those routes that there are."""
ALL = tuple(SERVICES)
OF_DEPLOYMENTS = tuple(route for route in ALL if route not in {"rows", "vault", "chat"})
"""Those that need no StatefulSet, no store, and no pods that serve WebSockets on after SIGTERM."""
STATEFUL = {"rows"}
"""Services whose pods are a StatefulSet's."""
DRAIN = {"lounge": 3.0, "troop": 2.0, "chat": 1.0}
"""Seconds that sessions stay on a terminating pod; elsewhere they leave at once."""
HEADERS = {"badge": "x-badge", "vault": "x-id"}
"""Where clients show their key in a header of that name, in lower case."""
COOKIES = {"wallet": "ID"}
"""Where the cookie is not `sid`."""
UNCOUNTED = {"rooms", "chat"}
"""Where there are no sessions to count, or their idle timer ends them before."""
GIVEN = {"wallet": "cookie", "vault": "header"}
"""Where the application gives the key out, and in what."""


def services(routes=ALL):
    """How many pods each Service of these routes begins with."""
    return {service: count for route in routes for service, count in SERVICES[route].items()}


def changing(routes=ALL):
    """The Services that events befall, and their routes."""
    return {service: route for route in routes if route != "quiet" for service in SERVICES[route]}


def route_of(number, routes=ALL):
    """Which route the session of that number is on."""
    place = number * 37 % 100 / 100 * sum(SHARES[route] for route in routes)
    for route in routes:
        place -= SHARES[route]
        if place < 0:
            return route
    raise AssertionError


def specs(routes=ALL):
    """A route for each way to know a session and to lose a pod; one is hashed, and one nobody touches."""
    timed = {"idleTimeout": "10m"}
    cookie = {"type": "Cookie", "sessionName": "sid", **timed}
    policies = {
        "shop": cookie,
        "desk": cookie | {"failover": {"mode": "Reject", "status": 503}},
        "lounge": cookie | {"failover": {"mode": "Temporary", "hold": "500ms"}, "drainTimeout": "3s"},
        "rooms": {"type": "QueryParam", "sessionName": "room"},
        "quiet": cookie,
        "badge": {"type": "Header", "sessionName": "X-Badge", **timed},
        "wallet": {"type": "AppCookie", "sessionName": "ID", "learn": {"from": "ResponseCookie"}},
        "gate": cookie | {"failover": {"mode": "Redirect", "redirectURL": "/login"}},
        "vault": {
            "type": "Header",
            "sessionName": "X-ID",
            "learn": {"from": "ResponseHeader", "mode": "Store"},
            **timed,
        },
        "troop": cookie | {"bindTo": "Cohort", "drainTimeout": "2s"},
        "chat": cookie | {"idleTimeout": "2s", "drainTimeout": "1s"},
        "rows": cookie | {"bindTo": "StatefulPod", "failover": {"mode": "Temporary", "hold": "300ms"}},
    }
    return {route: _spec(route, policies[route]) for route in routes}


def _spec(route, policy):
    services = list(SERVICES[route])
    weights = (80, 20) if len(services) > 1 else (1,)
    backends = [
        {"service": service, "port": 80, "weight": weight}
        for service, weight in zip(services, weights, strict=True)
    ]
    return {
        "className": "stickyroute",
        "hosts": [f"{route}.test"],
        "persistence": policy,
        "rules": [{"name": "app", "backends": backends}],
    }
