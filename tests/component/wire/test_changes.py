"""A rule's changes on real sockets: what the endpoint sees, what the client does, and its redirects."""

import re

import pytest
from tests.component.wire.harness import COOKIE, echo, get, serving

from stickyroute_api import snapshot
from stickyroute_api.changes import Changes, HeaderChanges, PathChange, Redirect, Rewrite


def headers(*, on="request", **given):
    return Changes(**{f"{on}_headers": HeaderChanges(**given)})


async def test_fields_of_requests():
    changes = headers(set=(("X-Env", "blue"),), add=(("X-Tag", "ä"),), remove=("X-Debug", "user-agent"))
    sent = ("X-Env: red", "x-env: green", "X-Debug: 1", "User-Agent: me", "X-Tag: mine", "Cookie: a=1; sr=x")
    async with serving(echo(), changes=changes) as (proxy, backend):
        raw = await proxy.connect()
        for line in ("X-N: 1", "X-N: 1", "X-N: 2"):
            await raw.send(get("/", *sent, line))
            await raw.answer()
        await raw.close()
        for _, _, fields, _ in backend.requests():
            seen = [field for field in fields if field[0] in (b"x-env", b"x-tag", b"x-debug", b"user-agent")]
            assert seen == [(b"x-tag", b"mine"), (b"x-env", b"blue"), (b"x-tag", "ä".encode())]
            assert dict(fields)[b"cookie"] == b"a=1"


async def test_a_client_cannot_take_away_what_the_rule_adds():
    async with serving(echo(), changes=headers(set=(("X-Tenant", "a"),))) as (proxy, backend):
        await proxy.ask(get("/", "Connection: close, X-Tenant", "X-Tenant: b"))
        fields = backend.requests()[0][2]
        assert [value for name, value in fields if name == b"x-tenant"] == [b"a"]


async def test_an_alias_is_no_way_around_what_the_rule_sets_and_removes():
    changes = headers(set=(("X-Tenant", "a"),), remove=("X_Admin",), add=(("X-Tag", "t"),))
    async with serving(echo(), changes=changes) as (proxy, backend):
        await proxy.ask(get("/", "X_Tenant: b", "x_tenant: c", "X-Admin: 1", "X_ADMIN: 1", "X_Tag: mine"))
        fields = backend.requests()[0][2]
        seen = [field for field in fields if field[0].startswith((b"x-t", b"x_t", b"x-a", b"x_a"))]
        assert seen == [(b"x_tag", b"mine"), (b"x-tenant", b"a"), (b"x-tag", b"t")]


async def test_fields_of_answers_and_not_of_errors():
    def reply(head, _):
        interim = b"HTTP/1.1 103 Early Hints\r\nServer: app\r\n\r\n" if b"/hints" in head else b""
        return interim + b"HTTP/1.1 200 OK\r\nServer: app\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n"

    changes = headers(on="response", set=(("X-Frame-Options", "DENY"),), remove=("server",))
    async with serving(echo(reply), changes=changes) as (proxy, _):
        raw = await proxy.connect()
        for _ in range(3):
            await raw.send(get("/"))
            head = await raw.head()
            assert b"\r\nX-Frame-Options: DENY\r\n" in head
            assert b"Server" not in head
            cookies = re.findall(rb"(?i)\r\nset-cookie: (.*?)=", head)
            assert sorted(cookies) == sorted([b"a", COOKIE.encode()])
        await raw.send(get("/hints"))
        assert await raw.head() == b"HTTP/1.1 103 Early Hints\r\nServer: app\r\n\r\n"
        assert b"\r\nX-Frame-Options: DENY\r\n" in await raw.head()
        table = proxy.plane.table
        gone = table.snapshot.model_copy(update={"endpoints": {"shop/web:80": ()}, "revision": 2})
        proxy.apply(gone)
        await raw.send(get("/"))
        head, _ = await raw.answer()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"X-Frame-Options" not in head
        await raw.close()


async def test_two_rules_share_an_endpoints_connections_and_not_their_changes():
    async with serving(echo()) as (proxy, backend):
        table = proxy.plane.table
        route = next(iter(table.snapshot.routes.values()))
        one = route.rules[0]
        rules = tuple(
            one.model_copy(
                update={
                    "name": name,
                    "matches": (snapshot.Match(path="/" + name),),
                    "changes": headers(on="response", set=(("X-Rule", name),)) if name != "c" else Changes(),
                }
            )
            for name in "abc"
        )
        route = route.model_copy(update={"rules": rules})
        proxy.apply(table.snapshot.model_copy(update={"routes": {route.key: route}, "revision": 2}))
        raw = await proxy.connect()
        for name in "abcabccbaaab":
            await raw.send(get("/" + name))
            head, _ = await raw.answer()
            assert re.findall(rb"X-Rule: (.)", head) == ([] if name == "c" else [name.encode()])
        await raw.close()
        assert backend.connections == 1


async def test_a_cookie_is_kept_from_the_shared_caches_that_a_rule_allows():
    changes = headers(on="response", set=(("Cache-Control", "public, max-age=60"),))
    async with serving(echo(), changes=changes) as (proxy, _):
        head = await proxy.ask(get("/"))
        assert b"\r\nCache-Control: public, max-age=60\r\n" in head
        assert b"set-cookie" not in head.lower()


async def test_host_and_path_are_rewritten_and_the_clients_host_is_forwarded():
    path = PathChange(type="ReplacePrefixMatch", value="/api/v2")
    changes = Changes(rewrite=Rewrite(hostname="app.internal", path=path))
    match = snapshot.Match(path="/v2")
    async with serving(echo(), changes=changes) as (proxy, backend):
        table = proxy.plane.table
        route = next(iter(table.snapshot.routes.values()))
        rule = route.rules[0].model_copy(update={"matches": (match,)})
        route = route.model_copy(update={"rules": (rule,)})
        proxy.apply(table.snapshot.model_copy(update={"routes": {route.key: route}, "revision": 2}))
        raw = await proxy.connect()
        targets = ("/v2/a?b=/v2", "/v2", "/v2/", "/v2/a?b=/v2", "http://shop.example.com/v2/x")
        for target in targets:
            await raw.send(get(target))
            await raw.answer()
        await raw.close()
        seen = backend.requests()
        assert [request[1] for request in seen] == [
            b"/api/v2/a?b=/v2",
            b"/api/v2",
            b"/api/v2/",
            b"/api/v2/a?b=/v2",
            b"/api/v2/x",
        ]
        for _, _, fields, _ in seen:
            assert dict(fields)[b"host"] == b"app.internal"
            assert dict(fields)[b"x-forwarded-host"] == b"shop.example.com"


async def test_redirects_reach_no_endpoint():
    path = PathChange(type="ReplaceFullPath", value="/moved")
    changes = Changes(redirect=Redirect(scheme="https", hostname="new.example.com", path=path, status=301))
    async with serving(echo(), changes=changes) as (proxy, backend):
        raw = await proxy.connect()
        await raw.send(get("/a?b"))
        head, body = await raw.answer()
        assert head.startswith(b"HTTP/1.1 301 Moved Permanently\r\n")
        assert b"\r\nLocation: https://new.example.com/moved?b\r\n" in head
        assert b"\r\nX-Request-Id: " in head
        assert b"https://new.example.com/moved?b" in body
        await raw.send(get("/a?b", method="HEAD"))
        assert (await raw.head()).startswith(b"HTTP/1.1 301 ")
        # The connection is sound, and a body that was not waited for ends it.
        await raw.send(get("/", "Content-Length: 5", method="POST") + b"hello")
        assert (await raw.rest()).startswith(b"HTTP/1.1 301 ")
        await raw.close()
        assert not backend.connections
        assert proxy.plane.counters.refused == {301: 3}
        assert proxy.plane.counters.of("shop/shop", "app").classes[3] == 3


async def test_a_redirect_without_any_host_is_400():
    async with serving(echo(), changes=Changes(redirect=Redirect(status=302))) as (proxy, _):
        assert (await proxy.ask(b"GET //evil/x HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("redirect", [True, False])
async def test_plain_http_is_sent_to_https(redirect):
    async with serving(echo()) as (proxy, backend):
        table = proxy.plane.table
        route = next(iter(table.snapshot.routes.values()))
        route = route.model_copy(update={"tls": snapshot.RouteTls(certificate="shop/tls", redirect=redirect)})
        proxy.apply(table.snapshot.model_copy(update={"routes": {route.key: route}, "revision": 2}))
        raw = await proxy.connect()
        await raw.send(get("/.well-known/acme-challenge/x"))
        assert (await raw.answer())[0].startswith(b"HTTP/1.1 200 ")
        await raw.send(get("/a?b", host="Shop.example.com:8080"))
        head, _ = await raw.answer()
        assert head.startswith(b"HTTP/1.1 308 " if redirect else b"HTTP/1.1 200 ")
        assert (b"\r\nLocation: https://shop.example.com/a?b\r\n" in head) == redirect
        await raw.close()
        assert len(backend.requests()) == (1 if redirect else 2)
