"""What a rule changes in messages, and the bounds that it sets."""

import aiohttp
import pytest
from tests.e2e import kube, manifests
from tests.e2e.load import ToNode

HOST = "traffic.stickyroute.test"

BACKEND = [{"service": "web", "port": "http"}]
RULES = [
    {
        "name": "api",
        "matches": [{"path": {"value": "/api"}}],
        "backends": BACKEND,
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {
                    "set": [{"name": "X-Tier", "value": "gold"}],
                    "add": [{"name": "X-Hop", "value": "edge 1"}],
                    "remove": ["X-Debug"],
                },
            },
            {
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": {"set": [{"name": "X-Frame-Options", "value": "DENY"}]},
            },
            {
                "type": "URLRewrite",
                "urlRewrite": {
                    "hostname": "internal.example.com",
                    "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"},
                },
            },
        ],
    },
    {
        "name": "moved",
        "matches": [{"path": {"value": "/old"}}],
        "filters": [
            {
                "type": "RequestRedirect",
                "requestRedirect": {
                    "scheme": "https",
                    "hostname": "new.example.com",
                    "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"},
                    "statusCode": 301,
                },
            }
        ],
    },
    {
        "name": "bounded",
        "matches": [{"path": {"value": "/bounded"}}, {"path": {"value": "/slow"}}],
        "backends": BACKEND,
        "limits": {"bodySize": "1Ki"},
        "timeouts": {"firstByte": "1s"},
    },
]


@pytest.fixture(scope="module")
def routed(application):
    kube.apply(application.namespace, manifests.route("traffic", HOST, [], rules=RULES))
    kube.wait_ready(application.namespace, "traffic")
    return application


@pytest.fixture
async def browser(routed):
    target = routed.release.target
    connector = aiohttp.TCPConnector(resolver=ToNode(target.address))
    async with aiohttp.ClientSession(f"http://{HOST}:{target.port}", connector=connector) as session:
        yield session


async def test_headers_and_the_path_are_changed(browser):
    headers = {"X-Tier": "none", "X-Debug": "1", "X-Hop": "client"}
    async with browser.get("/api/echo?a=b", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["X-Frame-Options"] == "DENY"
        seen = (await answer.json())["request"]
    assert seen["target"] == "/echo?a=b"
    assert seen["headers"]["host"] == "internal.example.com"
    assert seen["headers"]["x-tier"] == "gold"
    assert seen["headers"]["x-hop"].endswith("edge 1")  # the last of two, or both in one
    assert "x-debug" not in seen["headers"]


async def test_a_rule_redirects_without_a_pod(browser):
    async with browser.get("/old/cart?a=b", allow_redirects=False) as answer:
        assert answer.status == 301
        assert answer.headers["Location"] == "https://new.example.com/new/cart?a=b"


async def test_bodies_and_waits_are_bounded(browser):
    async with browser.post("/bounded", data=b"x" * 1024) as answer:
        assert answer.status == 200
    async with browser.post("/bounded", data=b"x" * 1025) as answer:
        assert answer.status == 413
    async with browser.get("/slow?s=5") as answer:
        assert answer.status == 504
