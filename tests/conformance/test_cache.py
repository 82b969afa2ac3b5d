import asyncio
import os
from pathlib import Path

import pytest
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
SURPLUS = {"304-etag-update-response-Content-Length", "headers-store-Content-Length"}
"""More follows than the length says, and the proxy passes the rest on to nobody. Without it Node 20's client
minds, Node 18's does not.
"""


@pytest.fixture
def package():
    """Where npm installed http-cache-tests."""
    found = Path(os.environ["CONFORMANCE_NODE_MODULES"]).resolve() / "http-cache-tests"
    assert found.is_dir(), f"{found} is missing: run `make conformance`"
    return found


async def test_http_cache_tests_see_no_proxy(proxied, node, package, tmp_path):
    told_by_npm = {
        "npm_config_protocol": "http",
        "npm_config_port": "0",
        "npm_config_pidfile": str(tmp_path / "pid"),
    }
    server = package / "server/server.mjs"
    async with serving(node, server, env=os.environ | told_by_npm) as port, proxied(port) as through:
        direct, seen = await asyncio.gather(
            *(told(node, HERE / "cache.mjs", package, f"http://127.0.0.1:{one}") for one in (port, through))
        )
    print(f"{len(direct)} cases of http-cache-tests")
    assert len(direct) > 300
    found = differences(direct, seen)
    assert found.keys() - SURPLUS == EXPLAINED.keys(), found
