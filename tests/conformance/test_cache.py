import asyncio
import os

from tests.conformance.page import WITH, WITHOUT
from tests.conformance.processes import HERE, differences, serving, told

BREAKS = "the server breaks off: a client without the proxy has no answer, one with it has 502"
EXPLAINED = {
    "headers-store-Transfer-Encoding": "an unknown transfer coding: 502",
    "stale-close": BREAKS,
    "stale-close-must-revalidate": BREAKS,
    "stale-close-no-cache": BREAKS,
    "stale-close-proxy-revalidate": BREAKS,
    "stale-close-s-maxage=2": BREAKS,
    "stale-sie-503": BREAKS,
    "stale-sie-close": BREAKS,
    "stale-warning-become": BREAKS,
    "stale-warning-stored": BREAKS,
}
"""Tests that differ, and why. One that no longer does has no place here."""
SURPLUS = dict.fromkeys(
    ("304-etag-update-response-Content-Length", "headers-store-Content-Length"),
    "more follows than the length says, and the proxy passes the rest on to nobody; Node 20's client minds",
)
"""Those that differ with Node 20, but not with Node 18."""


def verdicts(groups, results):
    """The (group, verdict) of each case: true, or a list of what kind of failure it is and why."""
    of = {case: name for name, cases in groups.items() for case in cases}
    return [(of[case], "passed" if result is True else result[0]) for case, result in results.items()]


async def test_http_cache_tests_see_no_proxy(proxied, node, package, page, tmp_path):
    told_by_npm = {
        "npm_config_protocol": "http",
        "npm_config_port": "0",
        "npm_config_pidfile": str(tmp_path / "pid"),
    }
    server = package / "server/server.mjs"
    async with serving(node, server, env=os.environ | told_by_npm) as port, proxied(port) as through:
        ran, through_proxy = await asyncio.gather(
            *(told(node, HERE / "cache.mjs", package, f"http://127.0.0.1:{one}") for one in (port, through))
        )
    direct, seen = ran["results"], through_proxy["results"]
    for run, results in ((WITHOUT, direct), (WITH, seen)):
        page.count("http-cache-tests", run, verdicts(ran["groups"], results))
    print(f"{len(direct)} cases of http-cache-tests")
    assert len(direct) > 300
    found = differences(direct, seen)
    left_out = {case for cases in ran["groups"].values() for case in cases} - direct.keys()
    page.leave_out(sorted(left_out), "of http-cache-tests, for a browser's cache only")
    page.explain("http-cache-tests", {f"`{case}`": (EXPLAINED | SURPLUS).get(case, "") for case in found})
    assert found.keys() - SURPLUS.keys() == EXPLAINED.keys(), found
