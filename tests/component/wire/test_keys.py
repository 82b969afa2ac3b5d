"""Every way in which a session is known, through real sockets."""

import re

import pytest
from tests.component.wire.apps import App, Browser, Clock, fleet_of, pod_of
from tests.component.wire.harness import COOKIE, echo, get, serving

from stickyroute_api import snapshot
from stickyroute_api.changes import Changes, HeaderChanges
from stickyroute_proxy.affinity.token import LENGTH

HEADER = {"type": "Header", "name": "X-Session"}
ENVELOPE = {"type": "AppCookie", "name": "ID", "learn": "Envelope"}
MCP = {"type": "Header", "name": "Mcp-Session-Id", "learn": "Envelope"}
MCP_APP = {"give": b"mcp-session-id: %b", "shown": rb"(?im)^mcp-session-id: (.*)\r$"}


def pods(count=3, **options):
    return [App(name, **options) for name in (b"a", b"b", b"c")[:count]]


async def test_a_header_of_ours_keeps_a_session_on_its_pod_and_goes_no_further():
    apps = pods()
    async with fleet_of(*apps, proxies=2, **HEADER) as (proxies, _, _apply):
        client = Browser("X-Session")
        pod, _ = await client.ask(proxies[0])
        assert re.search(rb"(?m)^X-Session: [A-Za-z0-9_-]{%d}\r$" % LENGTH, client.heads[0])
        assert b"\r\nCache-Control: private\r\n" in client.heads[0]
        for turn in range(6):
            assert (await client.ask(proxies[turn % 2], "x_session: alias"))[0] == pod
        assert not any(b"x-session" in head.lower().replace(b"_", b"-") for app in apps for head in app.heads)
        assert b"X-Session" not in b"".join(client.heads[1:])


async def test_a_header_of_ours_ages_moves_and_expires_as_a_cookie_does():
    clock = Clock()
    async with fleet_of(*pods(), clock=clock, idle_timeout=100.0, **HEADER) as (proxies, endpoints, apply):
        client = Browser("X-Session")
        pod, _ = await client.ask(proxies[0])
        first = dict(client.kept)
        clock.now += 11
        assert (await client.ask(proxies[0]))[0] == pod
        assert client.kept != first
        clock.now += 105
        assert (await client.ask(proxies[0]))[0] == pod
        del endpoints[pod]
        apply()
        moved, _ = await client.ask(proxies[0])
        assert moved != pod
        assert (await client.ask(proxies[0]))[0] == moved
        old = dict(client.kept)
        clock.now += 111
        await client.ask(proxies[0])
        assert client.kept != old
        scope = next(iter(proxies[0].plane.table.scopes.values()))
        assert (scope.moved, scope.expired, scope.new) == (1, 1, 2)


async def test_the_first_valid_of_several_headers_counts():
    async with fleet_of(*pods(), **HEADER) as (proxies, _, _apply):
        client = Browser("X-Session")
        pod, _ = await client.ask(proxies[0])
        (token,) = client.kept.values()
        for lines in (
            [f"X-Session: bad, {token}"],
            ["X-Session: bad", f"x-session: {token}"],
            [*["X-Session: bad"] * 7, f"X-Session: {token}"],
        ):
            for _ in range(3):
                assert (await Browser().ask(proxies[0], *lines))[0] == pod
        assert b"X-Session" in (
            await proxies[0].ask(get("/", *["X-Session: bad"] * 8, f"X-Session: {token}"))
        )


async def test_a_field_of_our_header_s_name_does_not_come_from_the_application():
    def reply(head, _):
        control = b"Cache-Control: public\r\n" if b"/public" in head else b""
        return b"HTTP/1.1 200 OK\r\nx-session: theirs\r\n" + control + b"Content-Length: 0\r\n\r\n"

    policy = snapshot.Persistence(**HEADER)
    changes = Changes(response_headers=HeaderChanges(set=(("X-Session", "of the rule"), ("X-Rule", "1"))))
    for given in (Changes(), changes):
        async with serving(echo(reply), persistence=policy, changes=given) as (proxy, _):
            raw = await proxy.connect()
            await raw.send(get())
            head, _ = await raw.answer()
            (token,) = re.findall(rb"(?im)^x-session: (.*)\r$", head)
            assert len(token) == LENGTH
            # Nor where there is no token of ours beside it.
            for path, lines in (("/", [f"X-Session: {token.decode()}"]), ("/public", [])):
                for _ in range(2):
                    await raw.send(get(path, *lines))
                    head, _ = await raw.answer()
                    assert b"x-session" not in head.lower()
                    assert (b"X-Rule: 1" in head) == (given is changes)
            await raw.close()


async def test_a_cookie_of_our_name_does_not_come_from_the_application():
    theirs = b"Set-Cookie: a=1\r\nset-cookie:  sr =theirs; Path=/x\r\nSet-Cookie: sr=; Max-Age=0\r\n"

    def reply(head, _):
        control = b"Cache-Control: public\r\n" if b"/public" in head else b""
        return b"HTTP/1.1 200 OK\r\n" + theirs + control + b"X-Next: sr=1\r\nContent-Length: 0\r\n\r\n"

    async with serving(echo(reply)) as (proxy, _):
        raw = await proxy.connect()
        await raw.send(get())
        head, _ = await raw.answer()
        assert len(re.findall(rb"(?im)^set-cookie: *sr *=", head)) == 1
        token = re.search(rb"set-cookie: (sr=[^;]{%d});" % LENGTH, head)[1].decode()
        for path, lines in (("/", [f"Cookie: {token}"]), ("/public", [])):
            for _ in range(2):
                await raw.send(get(path, *lines))
                head, _ = await raw.answer()
                assert re.findall(rb"(?im)^set-cookie:.*\r$", head) == [b"Set-Cookie: a=1\r"]
                assert b"\r\nX-Next: sr=1\r\n" in head
        await raw.close()


@pytest.mark.parametrize(
    "learned", [(ENVELOPE, {}, None), (MCP, MCP_APP, "mcp-session-id")], ids=["cookie", "header"]
)
async def test_an_envelope_binds_and_the_application_sees_its_own_values(learned):
    policy, options, header = learned
    apps = pods(**options)
    async with fleet_of(*apps, proxies=2, **policy) as (proxies, endpoints, apply):
        client = Browser(header)
        pod, value = await client.ask(proxies[0], "Cookie: other=1")
        (kept,) = client.kept.values()
        assert re.fullmatch(f"[A-Za-z0-9_-]{{{LENGTH}}}~{value.decode()}", kept)
        for turn in range(8):
            assert await client.ask(proxies[turn % 2]) == (pod, value)
        assert sum(len(app.sessions) for app in apps) == 1
        # Its pod goes: one other takes over through both proxies, and is told once by each.
        del endpoints[pod]
        apply()
        for app in apps:
            app.heads.clear()
            app.sessions.add(value)  # its state is shared: it gives out no other value
        places = [await client.ask(proxies[turn % 2]) for turn in range(8)]
        assert len(set(places)) == 1
        assert places[0][0] != pod
        told = [b"x-session-lost: PodTerminated" in head for app in apps for head in app.heads]
        assert told == [True, True] + [False] * 6
        assert {proxy.plane.table.scopes["shop/shop/web"].moved for proxy in proxies} == {1}
        for app in apps:
            app.sessions.discard(value)
        other, fresh = await client.ask(proxies[0])
        assert (other, fresh != value) == (places[0][0], True)
        assert await client.ask(proxies[1]) == (other, fresh)


async def test_an_envelope_leaves_all_else_byte_for_byte():
    fields = (
        b'Set-Cookie: a=1; Path=/x\r\nset-cookie:  ID="v w" ; Path=/p;HttpOnly; SameSite=Lax\r\n'
        b"X: y\r\nSet-Cookie: id=other\r\nSet-Cookie: ID=; Max-Age=0; Path=/old\r\n"
    )
    answer = b"HTTP/1.1 200 OK\r\n" + fields + b"Cache-Control: no-store\r\nContent-Length: 0\r\n\r\n"
    policy = snapshot.Persistence(**ENVELOPE)
    async with serving(echo(lambda *_: answer), persistence=policy) as (proxy, backend):
        raw = await proxy.connect()
        for _ in range(3):
            await raw.send(get())
            head, _ = await raw.answer()
            (token,) = re.findall(rb'ID="([A-Za-z0-9_-]{%d})~' % LENGTH, head)
            assert head.replace(token + b"~", b"").startswith(
                b"HTTP/1.1 200 OK\r\n" + fields.replace(b":  ", b": ")
            )
        sent = b'Cookie: z="1"; ID="' + token + b'~v w";  ID=raw;b=2; ID=' + b"f" * LENGTH + b"~x"
        await raw.send(get("/", sent.decode()))
        await raw.answer()
        assert b'\r\nCookie: z="1"; ID="v w";  ID=raw;b=2; ID=x\r\n' in backend.bytes
        await raw.close()


async def test_the_end_of_the_application_s_cookie_ends_the_binding_on_the_client():
    apps = pods()
    async with fleet_of(*apps, **ENVELOPE) as (proxies, _, _apply):
        client = Browser()
        pod, value = await client.ask(proxies[0])
        app = next(app for app in apps if app.name == pod)
        app.sessions.discard(value)
        app.give = b"Set-Cookie: ID=gone; Path=/; Max-Age=0; X=%b"
        await client.ask(proxies[0])
        assert client.kept == {}
        assert b"Set-Cookie: ID=gone; Path=/; Max-Age=0; X=" in client.heads[-1]


async def test_only_the_absolute_timer_ends_an_envelope_and_then_one_pod_is_found():
    clock = Clock()
    apps = pods()
    async with fleet_of(*apps, proxies=2, clock=clock, absolute_timeout=1000.0, **ENVELOPE) as (proxies, *_):
        client = Browser()
        pod, value = await client.ask(proxies[0])
        clock.now += 999
        assert await client.ask(proxies[1]) == (pod, value)
        clock.now += 2
        for app in apps:
            app.sessions.add(value)
        assert len({await client.ask(proxies[turn % 2]) for turn in range(10)}) == 1
        # The client never takes the new one: its session has ended once.
        assert proxies[0].plane.table.scopes["shop/shop/web"].expired == 1


async def test_another_client_s_token_beside_one_s_own_value_is_none():
    apps = pods()
    async with fleet_of(*apps, **ENVELOPE) as (proxies, *_):
        one, other = Browser(), Browser()
        await one.ask(proxies[0])
        await other.ask(proxies[0])
        mixed = one.kept["ID"][:LENGTH] + other.kept["ID"][LENGTH:]
        await Browser().ask(proxies[0], f"Cookie: ID={mixed}")
        scope = proxies[0].plane.table.scopes["shop/shop/web"]
        assert {str(reason): number for reason, number in scope.others.items()} == {
            "New": 2,
            "InvalidToken": 1,
        }
        assert any(
            b"ID=" + other.kept["ID"][LENGTH + 1 :].encode() in app.heads[-1] for app in apps if app.heads
        )


FORGED = {
    "cookie": (
        {"type": "Cookie", "cookie": snapshot.Cookie(name=COOKIE)},
        [f"Cookie: {COOKIE}={'f' * LENGTH}", f"Cookie: {COOKIE}=", f"Cookie: {COOKIE}=\xff{'x' * 4000}"],
    ),
    "header": (HEADER, ["X-Session: " + "f" * LENGTH, "X-Session: \xff"]),
    "envelope": (ENVELOPE, [f"Cookie: ID={'f' * LENGTH}~v", "Cookie: ID=raw"]),
    "mcp": (MCP, [f"Mcp-Session-Id: {'f' * LENGTH}~v", "Mcp-Session-Id: raw"]),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_forged_and_missing_keys_get_the_same_answer(kind):
    policy, forged = FORGED[kind]
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: ID=1\r\nMcp-Session-Id: 1\r\nContent-Length: 2\r\n\r\nok"

    def shape(data):
        return re.sub(rb"[A-Za-z0-9_-]{%d}" % LENGTH, b"TOKEN", re.sub(rb"Date: .*", b"", data))

    async with serving(echo(lambda *_: answer), persistence=snapshot.Persistence(**policy)) as (proxy, _):
        missing = shape(await proxy.ask(get()))
        for line in forged:
            request = get("/", line).decode().encode("latin-1")
            assert shape(await proxy.ask(request)) == missing


@pytest.mark.parametrize("kind", FORGED)
async def test_no_client_tells_the_application_that_its_session_was_lost(kind):
    async with serving(echo(), persistence=snapshot.Persistence(**FORGED[kind][0])) as (proxy, backend):
        await proxy.ask(get("/", "X-Session-Lost: PodTerminated", "x_session_lost: y", "X-Session_Lost: z"))
        assert b"session-lost" not in backend.bytes.lower().replace(b"_", b"-")


UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Pod: %b\r\n\r\n"


def chat(name):
    async def script(peer):
        while True:
            head, _ = await peer.request()
            if b"websocket" in head:
                await peer.send(SWITCH % name)
                while await peer.read():
                    pass
                return
            await peer.send(b"HTTP/1.1 200 OK\r\nX-Pod: %b\r\nContent-Length: 2\r\n\r\nok" % name)

    return script


class Chat:
    def __init__(self, name):
        self.name = name
        self.script = chat(name)


@pytest.mark.parametrize("policy", [FORGED["cookie"][0], HEADER], ids=["cookie", "header"])
async def test_an_idle_chat_finds_its_pod_again(policy):
    clock = Clock()
    chats = [Chat(name) for name in (b"a", b"b", b"c")]
    async with fleet_of(*chats, clock=clock, idle_timeout=60.0, **policy) as (proxies, *_):
        client = Browser("X-Session" if policy is HEADER else None)
        pod, _ = await client.ask(proxies[0])
        raw = await proxies[0].connect()
        ((name, value),) = client.kept.items()
        mine = f"X-Session: {value}" if policy is HEADER else f"Cookie: {name}={value}"
        await raw.send(get("/", mine, *UPGRADE))
        head = await raw.head()
        assert pod_of(head) == pod
        client._keep(head.decode())
        clock.now += 200
        await raw.close()
        for _ in range(5):
            assert (await client.ask(proxies[0]))[0] == pod
            clock.now += 1
        clock.now += 100
        await client.ask(proxies[0])
        assert proxies[0].plane.table.scopes["shop/shop/web"].expired == 1
