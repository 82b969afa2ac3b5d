"""Bad StickyRoutes: refused by name of the field, or told in a condition what to do; good ones serve on."""

import copy
import re

import pytest
from tests.e2e import kube, manifests
from tests.e2e.load import failures, moves

HOST = "bad.stickyroute.test"


def bad(path, value, base=None):
    """The good route with one field changed; None removes it."""
    manifest = copy.deepcopy(base or manifests.route("bad", HOST, ["web"]))
    *above, last = path
    part = manifest
    for key in above:
        part = part.setdefault(key, {}) if isinstance(part, dict) else part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return manifest


RULE, BACKEND = ("spec", "rules", 0), ("spec", "rules", 0, "backends", 0)
PERSISTENCE = ("spec", "persistence")

REFUSED = {
    "a bad duration": (bad((*PERSISTENCE, "idleTimeout"), "half an hour"), r"spec\.persistence\.idleTimeout"),
    "an unknown field": (bad((*PERSISTENCE, "idleTimeOut"), "30m"), r"spec\.persistence\.idleTimeOut"),
    "a cookie name with a space": (
        bad((*PERSISTENCE, "sessionName"), "my shop"),
        r"spec\.persistence\.sessionName",
    ),
    "weight -1": (bad((*BACKEND, "weight"), -1), r"spec\.rules\[0\]\.backends\[0\]\.weight"),
    "two hosts equal": (bad(("spec", "hosts"), [HOST, HOST]), r"spec\.hosts"),
    "a path without /": (bad((*RULE, "matches"), [{"path": {"value": "shop"}}]), r"path"),
    "no rule": (bad(("spec", "rules"), []), r"spec\.rules"),
    "a rule without a name": (bad((*RULE, "name"), None), r"spec\.rules\[0\]\.name"),
    "two rules of one name": (
        bad(("spec", "rules"), [manifests.route("x", HOST, ["web"])["spec"]["rules"][0]] * 2),
        r"spec\.rules",
    ),
    "no backend": (bad((*RULE, "backends"), []), r"spec\.rules\[0\]\.backends"),
    "a host with a scheme": (bad(("spec", "hosts"), ["http://shop"]), r"spec\.hosts\[0\]"),
    "an unknown persistence": (bad((*PERSISTENCE, "type"), "Cookies"), r"spec\.persistence\.type"),
    "SameSite None without Secure": (
        bad((*PERSISTENCE, "cookie"), {"sameSite": "None", "secure": "Never"}),
        r"spec\.persistence\.cookie",
    ),
    "a method in lower case": (bad((*RULE, "matches"), [{"method": "get"}]), r"method"),
}
"""What the API server refuses: the manifest, and what its message must name."""

TOLD = {
    "a missing Service": (
        bad((*BACKEND, "service"), "nowhere"),
        ("ResolvedRefs", "BackendNotFound", r"nowhere"),
    ),
    "a missing port": (bad((*BACKEND, "port"), "grpc"), ("ResolvedRefs", "PortNotFound", r"grpc")),
    "an ExternalName Service": (
        bad((*BACKEND, "service"), "external"),
        ("ResolvedRefs", "RefNotPermitted", r"ExternalName"),
    ),
    "a route over an older one": (
        bad(("spec", "hosts"), ["good.stickyroute.test"]),
        ("Accepted", "RouteConflict", r"good"),
    ),
    "a host of another namespace": (
        bad(("spec", "hosts"), ["demo.stickyroute.test"]),
        ("Accepted", "HostClaimed", r"demo\.stickyroute\.test"),
    ),
    "a wait for a pod without sessions": (
        bad(PERSISTENCE, {"type": "None", "failover": {"hold": "1s"}}),
        ("Accepted", "UnsupportedValue", r"spec\.persistence\.failover\.hold"),
    ),
    "keys for a store, and there is none": (
        bad(
            PERSISTENCE,
            {
                "type": "AppCookie",
                "sessionName": "ID",
                "learn": {"from": "ResponseCookie", "mode": "Store"},
            },
        ),
        ("Accepted", "UnsupportedValue", r"spec\.persistence\.learn\.mode"),
    ),
    "a pattern that is none": (
        bad((*RULE, "matches"), [{"path": {"type": "RegularExpression", "value": "/(unclosed"}}]),
        ("Accepted", "UnsupportedValue|Invalid", r"spec\.rules\[0\]\.matches\[0\]\.path"),
    ),
}
"""What becomes a condition: the manifest, and the condition's type, reason and what its message must say."""


@pytest.fixture(scope="module")
def good(release, place):
    external = {"type": "ExternalName", "externalName": "example.com"}
    kube.apply(
        place,
        *manifests.application(release.image, "web", 2),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "external"}, "spec": external},
        manifests.route("good", "good.stickyroute.test", ["web"]),
    )
    kube.rollout(place, "web")
    kube.wait_ready(place, "good")
    return place


@pytest.mark.parametrize("name", REFUSED)
def test_the_api_server_refuses(good, name):
    manifest, message = REFUSED[name]
    accepted, answer = kube.try_apply(good, manifest)
    assert not accepted, f"taken: {name}"
    assert re.search(message, answer), answer
    assert "Traceback" not in answer


async def test_conditions_say_what_to_do_and_the_good_routes_serve_on(release, good):
    """All of them at once, beside a good route under load."""
    routes = {f"bad-{number}": (name, *TOLD[name]) for number, name in enumerate(TOLD)}

    async def make():
        for route, (_, template, _) in routes.items():
            manifest = copy.deepcopy(template)
            manifest["metadata"]["name"] = route
            if manifest["spec"]["hosts"] == [HOST]:
                manifest["spec"]["hosts"] = [f"{route}.stickyroute.test"]
            await kube.off(kube.apply, good, manifest)
        problems = []
        for route, (name, _, (kind, reason, message)) in routes.items():

            def told(route=route, kind=kind):
                found = kube.condition(good, route, kind)
                return found if found and found["status"] == "False" else None

            try:
                found = await kube.off(kube.until, f"{kind}=False for {name}", told, 15)
            except AssertionError as error:
                problems.append(str(error))
                continue
            print(f"\n{name}: {kind}={found['reason']}: {found['message']}")
            if not re.fullmatch(reason, found["reason"]) or not re.search(message, found["message"]):
                problems.append(f"{name}: {found}")
        assert problems == []

    async with release.crowd("good.stickyroute.test", 20) as crowd:
        await crowd.each(2)
        await crowd.during(50, make())
        assert failures(crowd.records) == []
        assert moves(crowd.records) == []
    kube.wait_ready(good, "good")
    operator = kube.kubectl("-n", release.namespace, "logs", f"deployment/{release.deployment('operator')}")
    assert "Traceback" not in operator
