"""What the API accepts the proxy serves: one field that it refused would cost the fleet its snapshot."""

import string
from random import Random

import pytest
from hypothesis import given, settings
from tests.unit.api.specs import SPECS
from tests.unit.operator.builders import endpoint, pieces, route, service, state

from stickyroute_api.changes import Changes, HeaderChanges
from stickyroute_api.settingsfile import parse_settings
from stickyroute_api.snapshot import Snapshot
from stickyroute_operator.translate import translate
from stickyroute_proxy import changes
from stickyroute_proxy.table import build

TOKEN = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
PATH = "/" + "".join(one for one in VISIBLE if one not in "\"#?'")
LABEL = "a" * 63
LONG_NAME = ".".join([LABEL] * 3 + ["b" * 61])


def served(spec, **fleet):
    """The table of a fleet whose one route this is; None: the route is not accepted."""
    objects = [service(app_protocol="https"), pieces(endpoint("web-1", "10.0.0.1", ready=True))]
    translation = translate(state(route(**spec), *objects))
    if not translation.routes:
        return None
    sent = translation.snapshot(1, 1).model_copy(update=fleet).model_dump_json()
    return build(Snapshot.model_validate_json(sent), None, 1000.0, Random(0))


def rule(*, backend=(), **more):
    return {"rules": [{"name": "app", "backends": [{"service": "web", "port": 80, **dict(backend)}], **more}]}


def changed(member, kind, **modifier):
    return rule(filters=[{"type": kind, member: modifier}])


def headers(**modifier):
    return changed("requestHeaderModifier", "RequestHeaderModifier", **modifier)


def answered(**modifier):
    return changed("responseHeaderModifier", "ResponseHeaderModifier", **modifier)


def rewritten(**rewrite):
    return changed("urlRewrite", "URLRewrite", **rewrite)


def redirected(**redirect):
    one = {"type": "RequestRedirect", "requestRedirect": redirect}
    return {"rules": [{"name": "app", "filters": [one]}]}


def full(value):
    return {"type": "ReplaceFullPath", "replaceFullPath": value}


def prefix(value):
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


def value(name="x", value="v", **more):
    return {"name": name, "value": value, **more}


def matched(**match):
    return rule(matches=[match])


def expression(value):
    return matched(path={"type": "RegularExpression", "value": value})


def kept(**persistence):
    return {"persistence": {"type": "Cookie", **persistence}}


EDGES = {
    "header name": headers(set=[value(TOKEN[:64])], add=[value(TOKEN[64:])], remove=[TOKEN[64:]]),
    "header value": headers(set=[value("a", "x \t" + VISIBLE)], add=[value("b", "x" * 4096)]),
    "answer's header": answered(set=[value("Server", VISIBLE)], remove=["Date", "Content-Type"]),
    "rewrite": rewritten(hostname=LONG_NAME, path=full(PATH)),
    "rewrite of a prefix": rewritten(path=prefix("")),
    "rewrite, an address": rewritten(hostname="10.0.0.1", path=full("/" + "a" * 1023)),
    "redirect": redirected(hostname=LONG_NAME, port=65535, path=prefix("//" + PATH), scheme="https"),
    "redirect by port": redirected(port=1, statusCode=308),
    "hosts": {"hosts": [LONG_NAME, "*." + LONG_NAME[64:], "10.0.0.1", "a", "*.a"]},
    "TLS, no certificate": {"hosts": ["a.example.com"], "tls": {"secretName": "a"}},
    "endpoint's name": rule(backend={"tls": {"serverName": LONG_NAME}}),
    "endpoint's name, an address": rule(backend={"tls": {"serverName": "10.0.0.1"}}),
    "endpoint's name, nearly an address": rule(backend={"tls": {"serverName": "1.2.3"}}),
    "endpoint's name, A-label": rule(backend={"tls": {"serverName": "xn--a.example.com"}}),
    "endpoint's name, no A-label": rule(backend={"tls": {"serverName": "xn--" + "9" * 40 + ".com"}}),
    "paths": matched(path={"value": "/" + VISIBLE.replace("?", "").replace("#", "")}),
    "exact path": matched(path={"type": "Exact", "value": "/" + "%" * 1000}),
    "method": matched(method="M-SEARCH"),
    "matched values": matched(headers=[value(TOKEN, "é \U0001f36a")], queryParams=[value(TOKEN, "a&=")]),
    "expression": expression(r"/(?i)[[:alpha:]\x{ff}]+\d{1,9}.*"),
    "expression, classes": expression(r"\pL+\p{Greek}\C\Q.*\E"),
    "expression, large": expression("(((a{9}){9}){9})"),
    "expression, longest": expression("/" + "(a|b)" * 51),
    "expression of a value": matched(headers=[value("a", "[\u4e00-\u9fff]+", type="RegularExpression")]),
    "cookie": kept(sessionName=TOKEN, cookie={"path": "/" + VISIBLE.replace(";", "").replace("/", "")}),
    "cookie's name, longest": kept(sessionName="a" * 128),
    "notice": kept(failover={"notifyHeader": "X" + TOKEN}),
    "notice, longest": kept(failover={"notifyHeader": "X" * 128}),
    "timers": kept(idleTimeout="1ms", absoluteTimeout="99999h99999m"),
    "hash": {"loadBalancing": {"algorithm": "Hash", "hashOn": {"type": "Header", "name": TOKEN}}},
    "bounds": rule(
        limits={"bodySize": "999999999999Gi", "requestsPerEndpoint": 1_000_000, "queue": 0},
        timeouts={"request": "0s", "connect": "1ms", "firstByte": "99999h", "bodyIdle": "0s"},
        retries={"attempts": 5, "retryOn": []},
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_edges_of_each_field(name):
    table = served(EDGES[name])
    assert table is not None
    found = table.routes["default/shop"]
    assert len(found.rules) == 1


LONG_LABEL = "a" * 64 + ".example.com"


@pytest.mark.parametrize(
    "spec",
    [
        rule(backend={"tls": {"serverName": LONG_LABEL}}),
        rewritten(hostname=LONG_LABEL),
        redirected(hostname=LONG_LABEL),
        {"hosts": [LONG_LABEL]},
        expression(r"/\x{20ac}"),
        expression("/a{9}{9}{9}{9}{9}"),
        expression("/("),
        matched(headers=[value("a", "[b-a]", type="RegularExpression")]),
    ],
)
def test_what_no_proxy_could_serve_is_not_accepted(spec):
    assert served(spec) is None


@pytest.mark.parametrize("name", ["Host", "TE", "set-cookie", "x_forwarded_for", "X-Real-IP"])
def test_filters_leave_the_same_headers_alone_on_both_sides(name):
    assert served(headers(remove=[name])) is None
    assert served(answered(add=[value(name)])) is None
    with pytest.raises(ValueError, match="is the proxy's own"):
        changes.Changes(Changes(request_headers=HeaderChanges(remove=(name,))))


@settings(deadline=None, max_examples=50)
@given(SPECS)
def test_any_spec(spec):
    served({**spec, "className": "stickyroute"})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"trustedProxies": ["10.0.0.0/8", "::1", "0.0.0.0/0", "2001:db8::/32", "192.0.2.1/32"]},
        {"limits": {"headBytes": "1Ki", "headFields": 8, "targetBytes": 256, "connections": 1}},
        {"limits": {"headBytes": "1Mi", "bodyBytes": 0, "requests": 2_147_483_647, "pipelined": 1024}},
        {"timeouts": {"handshake": "0s", "head": "1ms", "keepAlive": "99999h"}},
        {"accessLog": {"mode": "Sampled", "sample": 1}, "retryBudget": {"percent": 0, "perSecond": 0}},
    ],
)
def test_settings(given):
    assert served(rule(), settings=parse_settings(given)) is not None
