"""Which part of a request shows the keys of a scope, and what of it goes on."""

import pytest
from tests.unit.proxy.fleets import Request

from stickyroute_api.snapshot import Cookie, Persistence
from stickyroute_proxy.affinity.carrier import NOTHING, AppCookie, AppHeader, OurCookie, OurHeader, carrier
from stickyroute_proxy.affinity.token import LENGTH

T, U = b"T" * LENGTH, b"U" * LENGTH


class Several(Request):
    """A request with several fields of one name."""

    def values(self, name):
        return self.headers.get(name, [])


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        (Persistence(type="Cookie", cookie=Cookie(name="sr")), OurCookie),
        (Persistence(type="Header", name="X-Session"), OurHeader),
        (Persistence(type="Header", name="Mcp-Session-Id", learn="Envelope"), AppHeader),
        (Persistence(type="Header", name="Mcp-Session-Id", learn="Store"), AppHeader),
        (Persistence(type="AppCookie", name="JSESSIONID", learn="Envelope"), AppCookie),
        (Persistence(type="AppCookie", name="JSESSIONID", learn="Store"), AppCookie),
        (Persistence(type="SourceIP"), type(NOTHING)),
        (Persistence(type="QueryParam", name="id"), type(NOTHING)),
        (Persistence(), type(NOTHING)),
    ],
)
def test_each_policy_has_its_carrier(policy, kind):
    assert type(carrier(policy)) is kind


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], []),
        ([b""], []),
        ([T], [T]),
        ([T, U], [T, U]),
        ([T + b", " + U], [T, U]),
        ([b" , " + T], [b"", T]),
        ([b",".join([b"x"] * 100)], [b"x"] * 8),
        ([b"x"] * 100, [b"x"] * 8),
    ],
)
def test_a_header_of_ours_shows_tokens(values, shown):
    request = Several(headers={b"x-session": values})
    assert OurHeader("X-Session").presented(request) == shown


def test_a_header_of_ours_goes_no_further_under_any_alias():
    lines = [b"A: 1", b"X-Session: " + T, b"x_session: y", b"X-Sessions: z"]
    assert OurHeader("X-Session").up_fields(lines) == [b"A: 1", b"X-Sessions: z"]
    assert OurHeader("X-Session").given(b"T", False) == b"X-Session: T\r\n"
    assert OurHeader("X-Session").given(b"", False) == b"X-Session: \r\n"


def test_a_cookie_of_ours_is_taken_back_with_its_own_attributes():
    ours = OurCookie(Cookie(name="sr", path="/a", domain="example.com"), 60.0)
    ended = b"set-cookie: sr=; Path=/a; Domain=example.com; Max-Age=0; Secure; HttpOnly; SameSite=Lax\r\n"
    assert ours.given(b"", True) == ended


@pytest.mark.parametrize(
    ("cookies", "shown"),
    [
        ([], []),
        ([b"ID=raw"], []),
        ([b"a=1; ID=" + T + b"~v; b=2"], [T + b"~v"]),
        ([b'ID="' + T + b'~v w"'], [T + b'~"v w"']),
        ([b"ID=raw; ID=" + T + b"~v", b"ID= " + U + b"~w "], [T + b"~v", U + b"~w"]),
        ([b"; ".join([b"ID=" + T + b"~v"] * 100)], [T + b"~v"] * 8),
    ],
)
def test_an_envelope_shows_its_token_with_the_value(cookies, shown):
    assert AppCookie("ID", wraps=True).presented(Request(cookies=cookies)) == shown


def test_a_stored_value_shows_itself_and_goes_on():
    plain = AppCookie("ID", wraps=False)
    assert plain.presented(Request(cookies=[b"ID=a; ID=b ;x=1"])) == [b"a", b"b"]
    assert plain.up_cookie(b"ID=" + T + b"~v") == b"ID=" + T + b"~v"
    header = AppHeader("Mcp-Session-Id", wraps=False)
    assert header.presented(Several(headers={b"mcp-session-id": [b"a", b"", b"b,c"]})) == [b"a", b"b,c"]
    assert header.up_fields([b"Mcp-Session-Id: a"]) == [b"Mcp-Session-Id: a"]


LINES = [
    b"Content-Type: text/plain",
    b"Set-Cookie: other=1; Path=/",
    b"SET-COOKIE:  ID=v; Path=/; HttpOnly",
    b"set-cookie: ID=; Max-Age=0",
    b'Set-Cookie: ID="w"; Path=/x',
]


def test_an_answer_s_cookies_are_wrapped_where_they_stand():
    assert AppCookie("ID", wraps=True).wrapped(LINES, lambda _: T, 1.0) == [
        LINES[0],
        LINES[1],
        b"SET-COOKIE:  ID=" + T + b"~v; Path=/; HttpOnly",
        LINES[3],
        b'Set-Cookie: ID="' + T + b'~w"; Path=/x',
    ]
    assert AppCookie("ID", wraps=False).minted(LINES, 1.0) == [b"v", b'"w"']


def test_an_answer_s_header_is_wrapped_and_opened_again():
    header = AppHeader("Mcp-Session-Id", wraps=True)
    given = [b"A: 1", b"mcp-session-id: 0a-1b", b"Mcp-Session-Id: ", b"Mcp-Session-Id-2: x"]
    wrapped = header.wrapped(given, lambda _: T, 1.0)
    assert wrapped == [b"A: 1", b"mcp-session-id: " + T + b"~0a-1b", *given[2:]]
    assert header.up_fields(wrapped) == given
    assert header.minted(given, 1.0) == [b"0a-1b"]


def test_an_answer_that_gives_out_nothing_is_the_same():
    lines = [b"A: 1"]
    assert AppCookie("ID", wraps=True).wrapped(lines, lambda _: T, 1.0) is lines
    assert AppHeader("X", wraps=True).wrapped(lines, lambda _: T, 1.0) is lines


@pytest.mark.parametrize(
    ("field", "times"),
    [
        (b"Set-Cookie: sr=x; Path=/", 1),
        (b"Set-Cookie: =sr=x", 1),  # browsers send it back as `sr=x`
        (b"set-cookie:  = sr = x", 1),
        (b"Set-Cookie: =sr=; Max-Age=0", 0),
        (b"Set-Cookie: ==sr=x", 0),
        (b"X-Set-Cookie: sr=x", 0),
    ],
)
def test_what_is_dropped_and_gives_something_out_is_a_clash(field, times):
    ours = OurCookie(Cookie(name="sr"), None)
    assert ours.clashes([b"Server: x", field], 0.0) == times
    assert times == 0 or ours.down_fields([b"Server: x", field]) == [b"Server: x"]
