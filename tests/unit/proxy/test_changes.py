"""What a rule changes, by tables of Gateway API's own examples; and what no rule can change."""

import string

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api import changes, snapshot
from stickyroute_api.guarded import guarded
from stickyroute_proxy.affinity.carrier import NOTHING
from stickyroute_proxy.changes import UNCHANGED, Changes, compiled
from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.fields import Kinds
from stickyroute_proxy.wire.head import RequestHead

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"


def prefix(*paths):
    return [snapshot.Match(path=path) for path in paths]


def path_change(kind, value):
    return changes.PathChange(type=kind, value=value)


def rewritten(target, value, *prefixes, kind="ReplacePrefixMatch"):
    rewrite = changes.Rewrite(path=path_change(kind, value))
    return Changes(changes.Changes(rewrite=rewrite), prefix(*prefixes)).path.target(target)


@pytest.mark.parametrize(
    ("path", "matched", "value", "becomes"),
    [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/", "/", "/xyz", "/xyz/"),
        ("/foobar", "/foo", "/xyz", "/foobar"),
        ("*", "/", "/xyz", "*"),
    ],
)
def test_a_prefix_becomes_another(path, matched, value, becomes):
    assert rewritten(path.encode(), value, matched) == becomes.encode()
    if path != "*":
        query = b"?a=/foo?&%zz"
        assert rewritten(path.encode() + query, value, matched) == becomes.encode() + query


def test_the_longest_prefix_counts():
    assert rewritten(b"/foo/bar/x", "/v", "/foo", "/foo/bar") == b"/v/x"


def test_a_whole_path_is_replaced_and_the_query_kept():
    assert rewritten(b"/a/b?c=d", "/new/", kind="ReplaceFullPath") == b"/new/?c=d"
    assert rewritten(b"/a/b?", "/new", kind="ReplaceFullPath") == b"/new?"


REDIRECTS = [
    ({}, b"http", b"A.example.com", b"/x?y", b"http://a.example.com/x?y"),
    ({}, b"http", b"a.example.com:8080", b"/x", b"http://a.example.com:8080/x"),
    ({}, b"http", b"a.example.com:80", b"/x", b"http://a.example.com/x"),
    ({}, b"https", b"a.example.com:443", b"/x", b"https://a.example.com/x"),
    ({"scheme": "https"}, b"http", b"a.example.com:8080", b"/x?y", b"https://a.example.com/x?y"),
    ({"scheme": "https"}, b"http", b"[::1]:8080", b"/", b"https://[::1]/"),
    ({"scheme": "https", "port": 8443}, b"http", b"a", b"/", b"https://a:8443/"),
    ({"scheme": "http", "port": 443}, b"http", b"a", b"/", b"http://a:443/"),
    ({"scheme": "https", "port": 443}, b"http", b"a", b"/", b"https://a/"),
    ({"hostname": "b.example.com"}, b"http", b"a:8080", b"/x", b"http://b.example.com:8080/x"),
    ({"hostname": "b.example.com", "port": 80}, b"http", b"a:8080", b"/x", b"http://b.example.com/x"),
    ({"hostname": "b.example.com"}, b"http", b"", b"//evil/x", b"http://b.example.com//evil/x"),
    ({}, b"http", b"[::1]", b"/x", b"http://[::1]/x"),
    ({}, b"http", b"a", b"*", b"http://a/"),
    ({}, b"http", b"", b"//evil/x", b""),
    ({"path": path_change("ReplaceFullPath", "/n")}, b"http", b"a", b"/x?y", b"http://a/n?y"),
    ({"path": path_change("ReplacePrefixMatch", "/n")}, b"http", b"a", b"/old/x?y", b"http://a/n/x?y"),
]


@pytest.mark.parametrize(("redirect", "scheme", "authority", "target", "location"), REDIRECTS)
def test_redirects(redirect, scheme, authority, target, location):
    made = Changes(changes.Changes(redirect=changes.Redirect(**redirect)), prefix("/old"))
    found = made.redirect(scheme, b"/x")
    assert found.status == 302
    host = b"[::1]" if authority[:1] == b"[" else authority.lower().partition(b":")[0]
    assert found.location(scheme, host, authority, target) == location


def test_to_https_first_but_never_for_a_challenge():
    elsewhere = changes.Changes(redirect=changes.Redirect(hostname="b", status=301))
    made = Changes(elsewhere, to_https=True)
    assert made.redirects
    assert made.redirect(b"http", b"/").location(b"http", b"a", b"a:8080", b"/x?y") == b"https://a/x?y"
    assert made.redirect(b"http", b"/").status == 308
    assert made.redirect(b"https", b"/").status == 301
    assert made.redirect(b"http", b"/.well-known/acme-challenge/abc").status == 301
    assert Changes(to_https=True).redirect(b"http", b"/.well-known/acme-challenge/abc") is None
    assert Changes(to_https=True).redirect(b"https", b"/") is None


def headers(**kinds):
    return changes.HeaderChanges(**kinds)


def test_fields_are_removed_then_set_then_added():
    given = headers(set=(("X-A", "set"),), add=(("x-a", "added"), ("X-B", "b")), remove=("x-c", "X-B"))
    fields = Changes(changes.Changes(request_headers=given)).request
    lines = [b"x-a: 1", b"X-D: d", b"X-A: 2", b"X-C: 3", b"x-b: old"]
    assert fields.apply(lines) == [b"X-D: d", b"X-A: set", b"x-a: added", b"X-B: b"]


REFUSED = {
    "Host": headers(set=(("Host", "a"),)),
    "content-length": headers(add=(("content-length", "1"),)),
    "Transfer-Encoding": headers(remove=("Transfer-Encoding",)),
    "Transfer_Encoding": headers(add=(("Transfer_Encoding", "chunked"),)),
    "Connection": headers(set=(("Connection", "close"),)),
    "Cookie": headers(add=(("Cookie", "a=b"),)),
    "Expect": headers(add=(("Expect", "100-continue"),)),
    "X-Forwarded-For": headers(set=(("X-Forwarded-For", "1.1.1.1"),)),
    "x_forwarded_proto": headers(remove=("x_forwarded_proto",)),
    "Forwarded": headers(remove=("Forwarded",)),
    "X-Request-Id": headers(set=(("X-Request-Id", "a"),)),
    "X_Session_Lost": headers(set=(("X_Session_Lost", "PodTerminated"),)),
    "not a header name": headers(add=(("a b", "c"),)),
    "value of X-A": headers(add=(("X-A", "b\r\nX-C: d"),)),
    "the value of X-B": headers(set=(("X-B", "a\0"),)),
    "the value of X-C": headers(set=(("X-C", " a"),)),
}


def rule(given, **fields):
    policy = snapshot.Persistence(
        type="Cookie",
        cookie=snapshot.Cookie(name="sr"),
        failover=snapshot.Failover(notify_header="X-Moved"),
        **fields,
    )
    matches = (snapshot.Match(path_type="Exact", path="/a"),)
    return snapshot.Rule(
        name="r",
        matches=matches,
        backends=(),
        scope="s",
        persistence=policy,
        changes=changes.Changes(**given),
    )


def test_only_the_proxy_tells_of_a_lost_session():
    """Whatever a route calls the notice: no field of that name is changed, and no snapshot refused for it."""
    given = headers(set=(("X_Moved", "a"), ("X-A", "a")), add=(("x-moved", "b"),), remove=("X-Moved",))
    made = compiled(rule({"request_headers": given}), to_https=False)
    assert made.request.apply([b"X-Moved: c"]) == [b"X-Moved: c", b"X-A: a"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_rule_can_change_in_requests(name):
    with pytest.raises(ValueError, match=r"changes\.request_headers: .*" + name.removeprefix("the ")):
        compiled(rule({"request_headers": REFUSED[name]}), to_https=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"response_headers": headers(remove=("Content-Length",))}, "Content-Length is the proxy's own"),
        ({"response_headers": headers(set=(("trailer", "a"),))}, "trailer is the proxy's own"),
        ({"response_headers": headers(set=(("Set-Cookie", "a=b"),))}, "Set-Cookie is the proxy's own"),
        ({"rewrite": changes.Rewrite(hostname="a/b")}, "'a/b' is not a host name"),
        ({"rewrite": changes.Rewrite(hostname="a\r\nb: c")}, "is not a host name"),
        ({"redirect": changes.Redirect(hostname="u@a")}, "is not a host name"),
        ({"rewrite": changes.Rewrite(path=path_change("ReplaceFullPath", ""))}, "is not a path"),
        ({"rewrite": changes.Rewrite(path=path_change("ReplaceFullPath", "/a?b"))}, "is not a path"),
        ({"redirect": changes.Redirect(path=path_change("ReplaceFullPath", "/a b"))}, "is not a path"),
        ({"rewrite": changes.Rewrite(path=path_change("ReplacePrefixMatch", "a"))}, "neither empty nor"),
        ({"rewrite": changes.Rewrite(path=path_change("ReplacePrefixMatch", "/a"))}, "type PathPrefix"),
    ],
)
def test_what_else_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        compiled(rule(given), to_https=False)


def test_who_changes_nothing_costs_nothing():
    assert compiled(rule({}), to_https=False) is UNCHANGED
    assert not UNCHANGED.redirects


names = st.text(TOKEN, min_size=1, max_size=8).filter(lambda name: not guarded(name))
values = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=8).map(str.strip)
rules = st.builds(
    changes.HeaderChanges,
    set=st.lists(st.tuples(names, values), max_size=3).map(tuple),
    add=st.lists(st.tuples(names, values), max_size=3).map(tuple),
    remove=st.lists(names, max_size=3).map(tuple),
)
sent = st.lists(st.tuples(names.map(str.encode), values.map(str.encode)), max_size=6)


def as_gateway_api_says(given, fields):
    """A plain second reading of the same words."""
    for name in given.remove:
        fields = [field for field in fields if field[0].lower() != name.lower().encode()]
    for name in [name for name, _ in given.set]:
        fields = [field for field in fields if field[0].lower() != name.lower().encode()]
    return fields + [(name.encode(), value.encode()) for name, value in (*given.set, *given.add)]


@given(rules, sent)
def test_requests_carry_what_the_rule_says_and_stay_one_message(rule, fields):
    fields = [field for field in fields if not Kinds()[field[0]]]
    head = RequestHead()
    head.read(b"GET /a HTTP/1.1", [(b"Host", b"a"), *fields], Kinds())
    head.request_id = b"1"
    made = Changes(changes.Changes(request_headers=rule))
    data = head.write(b"a", NOTHING, b"x-lost", None, b"F: f\r\n", changes=made)
    again = head.write(b"a", NOTHING, b"x-lost", None, b"F: f\r\n", changes=made)
    assert again == data
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    expected = [(name.lower(), value) for name, value in as_gateway_api_says(rule, fields)]
    assert list(request.headers)[1:-2] == expected
    unchanged = head.write(b"a", NOTHING, b"x-lost", None, b"F: f\r\n")
    assert b"\r\n".join([b": ".join(field) for field in fields]) in unchanged


@given(rules, rules, sent)
def test_answers_carry_what_their_own_rule_says(one, other, fields):
    fields = [field for field in fields if field[0].lower() not in (b"te", b"date")]
    answer = AnswerHead()
    answer.read(b"HTTP/1.1 200 OK", [*fields, (b"Content-Length", b"0")], to_head=False)
    plain = answer.write(b"", chunked=False)
    for rule in (one, other):
        answer.change(Changes(changes.Changes(response_headers=rule)).answer)
        lines = [b": ".join(field) for field in as_gateway_api_says(rule, fields)]
        expected = [b"HTTP/1.1 200 OK", *lines, b"Content-Length: 0", b"\r\n"]
        assert answer.write(b"", chunked=False) == b"\r\n".join(expected)
    answer.change(None)
    assert answer.write(b"", chunked=False) == plain


def test_caching_that_a_rule_allows_is_seen():
    answer = AnswerHead()
    answer.read(b"HTTP/1.1 200 OK", [(b"Cache-Control", b"private")], to_head=False)
    made = Changes(changes.Changes(response_headers=headers(set=(("cache-control", "public"),))))
    answer.change(made.answer)
    assert answer.cache_control == b"public"
    answer.change(Changes(changes.Changes(response_headers=headers(remove=("Cache-Control",)))).answer)
    assert answer.cache_control is None
    answer.change(None)
    assert answer.cache_control == b"private"
