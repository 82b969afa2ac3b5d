import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.proxy.fleets import Proxy, fleet, persistence, pods, route, rule

from stickyroute_api.snapshot import Cookie
from stickyroute_proxy.affinity import cookie
from stickyroute_proxy.affinity.keys import MAX_PRESENTED, presented

NAME = b"sr"


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b"a=1", b"a=1"),
        (b"sr=x", None),
        (b" sr=x ; ", None),
        (b"sr=x; a=1", b"a=1"),
        (b"a=1; sr=x", b"a=1"),
        (b"a=1; sr=x; b=2", b"a=1; b=2"),
        (b"a=1;sr=x;b=2", b"a=1;b=2"),
        (b"sr=x; sr=y; a=1; sr=z", b"a=1"),
        (b"asr=1; sr2=2; a=sr=3; SR=4", b"asr=1; sr2=2; a=sr=3; SR=4"),
        (b"a=1; sr =x", b"a=1"),
        (b"a=1; sr", b"a=1; sr"),
        (b"a=\xff\x00; sr=x", b"a=\xff\x00"),
        (b"a=1;; sr=x;", b"a=1;;"),
    ],
)
def test_strip(value, left):
    assert cookie.strip(value, NAME) == left


pairs = st.tuples(st.sampled_from([b"a", b"sra", b"xsr", b"sr", b"Sr"]), st.binary(max_size=8)).map(
    lambda pair: pair[0] + b"=" + pair[1].replace(b";", b"")
)


@given(st.lists(pairs, max_size=6))
def test_other_cookies_stay_byte_for_byte(given):
    ours = [pair for pair in given if pair.startswith(b"sr=")]
    others = [pair for pair in given if not pair.startswith(b"sr=")]
    if others:
        others[0] = others[0].lstrip(b" \t")
    left = cookie.strip(b"; ".join(given), NAME)
    if not others and (ours or not given):
        assert left == (None if ours else b"")
    else:
        assert left == b"; ".join(others)


@given(st.binary(max_size=60) | st.text("sr=; \tax", max_size=40).map(str.encode))
@example(b"sr=1;sr=2 ; x sr=3")
def test_any_bytes_are_safe_and_none_of_ours_is_left(value):
    left = cookie.strip(value, NAME)
    assert presented([] if left is None else [left], b"sr=") == []


@pytest.mark.parametrize(
    ("cookies", "values"),
    [
        ([], []),
        ([b"a=1"], []),
        ([b"sr=x"], [b"x"]),
        ([b"a=1; sr=x; b=2"], [b"x"]),
        ([b"a=1;sr=x;b=2"], [b"x"]),
        ([b"a=1;\t  sr=x"], [b"x"]),
        ([b"xsr=1; a sr=2; a=sr=3; sr=4"], [b"4"]),
        ([b"sr=sr=1; sr="], [b"sr=1", b""]),
        ([b"sr=1", b"a=2; sr=3"], [b"1", b"3"]),
    ],
)
def test_presented(cookies, values):
    assert presented(cookies, b"sr=") == values


def test_at_most_so_many_are_looked_at():
    assert len(presented([b"; ".join([b"sr=x"] * 100)], b"sr=")) == MAX_PRESENTED


@pytest.mark.parametrize(
    ("options", "secure", "line"),
    [
        ({}, False, b"set-cookie: sr=T; Path=/; HttpOnly; SameSite=Lax\r\n"),
        ({}, True, b"set-cookie: sr=T; Path=/; Secure; HttpOnly; SameSite=Lax\r\n"),
        ({"secure": "Never"}, True, b"set-cookie: sr=T; Path=/; HttpOnly; SameSite=Lax\r\n"),
        (
            {"secure": "Always", "http_only": False},
            False,
            b"set-cookie: sr=T; Path=/; Secure; SameSite=Lax\r\n",
        ),
        (
            {"path": "/app", "domain": "example.com", "same_site": "Strict", "permanent": True},
            False,
            b"set-cookie: sr=T; Path=/app; Domain=example.com; Max-Age=3600; HttpOnly; SameSite=Strict\r\n",
        ),
        (
            {"same_site": "None", "partitioned": True},
            True,
            b"set-cookie: sr=T; Path=/; Secure; HttpOnly; SameSite=None; Partitioned\r\n",
        ),
        (
            {"name": "__Host-sr"},
            False,
            b"set-cookie: __Host-sr=T; Path=/; Secure; HttpOnly; SameSite=Lax\r\n",
        ),
        (
            {"name": "__secure-sr", "same_site": "None", "partitioned": True},
            False,
            b"set-cookie: __secure-sr=T; Path=/; Secure; HttpOnly; SameSite=None; Partitioned\r\n",
        ),
        ({"same_site": "None", "partitioned": True}, False, b"set-cookie: sr=T; Path=/; HttpOnly\r\n"),
    ],
)
def test_set_cookie(options, secure, line):
    policy = persistence(cookie=Cookie(**{"name": "sr", **options}), absolute_timeout=3600)
    proxy = Proxy(fleet([route(rule(persistence=policy))], web=pods("web-1")))
    assert proxy.scope().carrier.given(b"T", secure) == line


@pytest.mark.parametrize(
    ("status", "cache_control", "may"),
    [
        (200, None, True),
        (304, None, False),
        (101, None, True),
        (200, b"private, max-age=5", True),
        (200, b"max-age=5, Public", False),
        (200, b"S-MaxAge=60", False),
        (200, b"no-store,public=x", False),
        (200, b"x-public, republic", True),
    ],
)
def test_may_set(status, cache_control, may):
    assert cookie.may_set(status, cache_control) is may


@pytest.mark.parametrize(
    ("line", "is_set"),
    [
        (b"Set-Cookie: sr=x; Path=/", True),
        (b"SET-COOKIE:sr = x", True),
        (b"set-cookie: \tsr=", True),
        (b"Set-Cookie: =sr=x", True),  # without a name its value goes back alone, and reads as ours
        (b"Set-Cookie: = sr=x", True),
        (b"Set-Cookie: ==sr=x", False),  # goes back as `=sr=x`
        (b"Set-Cookie: sr; Path=/", False),
        (b"Set-Cookie: sr2=x; a=sr=1", False),
        (b"Set-Cookie: SR=x", False),
        (b"Set-Cookie: a=sr=x", False),
        (b"Set-Cookie2: sr=x", False),
    ],
)
def test_which_lines_set_it(line, is_set):
    assert cookie.sets(line, NAME) == is_set
