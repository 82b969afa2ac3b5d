from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import Proxy, fleet, pods, route, rule

from stickyroute_api.snapshot import HeaderMatch, Match
from stickyroute_proxy.affinity.keys import decoded
from stickyroute_proxy.match import compiled


def exact(path, **fields):
    return Match(path_type="Exact", path=path, **fields)


def prefix(path="/", **fields):
    return Match(path_type="PathPrefix", path=path, **fields)


def regex(path, **fields):
    return Match(path_type="RegularExpression", path=path, **fields)


def header(name, value, **fields):
    return HeaderMatch(name=name, value=value, **fields)


def table(*routes):
    return Proxy(fleet(list(routes), web=pods("web-1"))).table


def find(found, *, host=b"a.example.com", path=b"/", query=b"", method=b"GET", headers=()):
    chosen = found.find(host, path, query, method, list(headers))
    return None if chosen is None else chosen.name


def one(*matches):
    """A table of one rule named `yes`."""
    return table(route(rule("yes", matches=matches)))


@pytest.mark.parametrize(
    ("match", "request_", "fits"),
    [
        (prefix("/"), {"path": b"/x"}, True),
        (prefix("/"), {"path": b"*"}, True),
        (prefix("/api"), {"path": b"/api"}, True),
        (prefix("/api"), {"path": b"/api/"}, True),
        (prefix("/api"), {"path": b"/api/x"}, True),
        (prefix("/api"), {"path": b"/apix"}, False),
        (prefix("/api"), {"path": b"/API"}, False),
        (prefix("/api/"), {"path": b"/api"}, True),
        (prefix("/api/"), {"path": b"/api/x"}, True),
        (prefix("/api/"), {"path": b"/apix"}, False),
        (exact("/api"), {"path": b"/api"}, True),
        (exact("/api"), {"path": b"/api/"}, False),
        (exact("/api/"), {"path": b"/api/"}, True),
        (regex("/u/[0-9]+"), {"path": b"/u/12"}, True),
        (regex("/u/[0-9]+"), {"path": b"/u/12/x"}, False),
        (regex("/u|/v"), {"path": b"/v"}, True),
        (regex("/.*"), {"path": b"/\xff\x00"}, True),
        (prefix(method="POST"), {"method": b"POST"}, True),
        (prefix(method="POST"), {"method": b"post"}, False),
        (prefix(headers=(header("X-A", "1"),)), {}, False),
        (prefix(headers=(header("X-A", "1"),)), {"headers": [(b"x-a", b"1")]}, True),
        (prefix(headers=(header("x-a", "1"),)), {"headers": [(b"X-A", b"1 ")]}, False),
        (prefix(headers=(header("x-a", "1, 2"),)), {"headers": [(b"X-A", b"1"), (b"x-a", b"2")]}, True),
        (prefix(headers=(header("x-a", "v[12]", regex=True),)), {"headers": [(b"X-A", b"v2")]}, True),
        (prefix(headers=(header("x-a", "v[12]", regex=True),)), {"headers": [(b"X-A", b"v22")]}, False),
        (prefix(query_params=(header("q", "1"),)), {"query": b"a=2&q=1"}, True),
        (prefix(query_params=(header("q", "1"),)), {"query": b"Q=1"}, False),
        (prefix(query_params=(header("q", "1"),)), {"query": b"q=2&q=1"}, False),
        (prefix(query_params=(header("q", "a b"),)), {"query": b"q=a+b"}, True),
        (prefix(query_params=(header("q", "a b"),)), {"query": b"q=a%20b"}, True),
        (prefix(query_params=(header("q", ".*", regex=True),)), {"query": b"q"}, True),
        (prefix(query_params=(header("q", ".*", regex=True),)), {}, False),
    ],
)
def test_a_match(match, request_, fits):
    assert find(one(match), **request_) == ("yes" if fits else None)


@pytest.mark.parametrize(
    ("better", "worse", "request_"),
    [
        (exact("/a"), prefix("/a"), {"path": b"/a"}),
        (prefix("/a/b"), prefix("/a"), {"path": b"/a/b/c"}),
        (regex("/a.*"), prefix("/a"), {"path": b"/a"}),
        (exact("/a"), prefix("/a", method="GET", headers=(header("x", "1"),)), {"path": b"/a"}),
        (prefix(method="GET"), prefix(headers=(header("x", "1"), header("y", "1"))), {}),
        (prefix(headers=(header("x", "1"), header("y", "1"))), prefix(headers=(header("x", "1"),)), {}),
        (prefix(headers=(header("x", "1"),)), prefix(query_params=(header("q", "1"), header("r", "1"))), {}),
        (
            prefix(query_params=(header("q", "1"), header("r", "1"))),
            prefix(query_params=(header("q", "1"),)),
            {},
        ),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_more_specific_match_wins(better, worse, request_, swapped):
    rules = [rule("better", matches=(better,)), rule("worse", matches=(worse,))]
    found = table(route(*(reversed(rules) if swapped else rules)))
    request_ = {"headers": [(b"x", b"1"), (b"y", b"1")], "query": b"q=1&r=1"} | request_
    assert find(found, **request_) == "better"


def test_equal_matches_go_to_the_older_route_then_the_name_then_the_order():
    old = route(rule("old"), name="z", created=1)
    young = route(rule("young"), name="a", created=2)
    assert find(table(young, old)) == "old"
    assert find(table(route(rule("b"), name="b"), route(rule("a"), name="a"))) == "a"
    assert find(table(route(rule("z"), rule("a")))) == "z"


def test_hosts_by_precision_and_without_shadowing():
    found = table(
        route(rule("any"), name="any"),
        route(rule("wide", matches=(prefix("/wide"),)), name="wide", hosts=("*.com",)),
        route(rule("wild", matches=(prefix("/wild"),)), name="wild", hosts=("*.example.com",)),
        route(rule("host", matches=(prefix("/host"),)), name="host", hosts=("a.example.com",)),
    )
    for path, name in [(b"/host", "host"), (b"/wild", "wild"), (b"/wide", "wide"), (b"/x", "any")]:
        assert find(found, path=path) == name
    assert find(found, host=b"x.y.example.com", path=b"/wild") == "wild"
    assert find(found, host=b"example.com", path=b"/wild") == "any"
    assert find(found, host=b"example.com", path=b"/wide") == "wide"
    assert find(found, host=b"b.example.com", path=b"/host") == "any"
    assert find(found, host=b"", path=b"/host") == "any"


def test_the_most_specific_host_comes_before_the_better_path():
    found = table(
        route(rule("wild", matches=(exact("/a"),)), name="wild", hosts=("*.example.com",)),
        route(rule("host"), name="host", hosts=("a.example.com",)),
    )
    assert find(found, path=b"/a") == "host"


def test_unknown_host():
    assert find(table(route(hosts=("shop.example.com",)))) is None


paths = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.tuples(st.sampled_from([exact, prefix]), paths), min_size=1, max_size=8), paths)
def test_paths_follow_gateway_api(given, path):
    """Against the order spelled out: the exact path, else the longest prefix by segments, else none."""
    found = table(route(*(rule(f"r{at}", matches=(kind(own),)) for at, (kind, own) in enumerate(given))))

    def segments(text):
        return [part for part in text.split("/") if part]

    best = None
    for at, (kind, own) in enumerate(given):
        parts = segments(own)
        if kind is exact and own == path:
            rank = (1, 0)
        elif kind is prefix and segments(path)[: len(parts)] == parts:
            rank = (0, len(own.rstrip("/")))
        else:
            continue
        if best is None or rank > best[0]:
            best = (rank, f"r{at}")
    assert find(found, path=path.encode()) == (best and best[1])


@given(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30))
def test_any_request_is_safe(host, path, query):
    found = table(
        route(
            rule("r", matches=(regex("/[a-z]+", query_params=(header("q", ".", regex=True),)),)),
            hosts=("*.example.com", "a.example.com"),
        )
    )
    assert find(found, host=host, path=path, query=query) in ("r", None)


@pytest.mark.parametrize("pattern", ["(", "a{1001}{1001}", r"\1", "(?=x)", "x" * 257])
def test_what_is_no_pattern_is_said(pattern):
    with pytest.raises(ValueError, match="regular expression"):
        compiled(pattern)


@given(st.lists(st.sampled_from([b"%", b"4", b"1", b"f", b"G", b"+", b"&", b"\xff", b"%e2%82%ac"])))
def test_names_and_values_are_decoded_as_forms_encode_them(parts):
    text = b"".join(parts)
    assert decoded(text) == unquote_to_bytes(text.replace(b"+", b" "))
