"""What an application gives out under our own session's name: taken out of its answers, and told."""

from datetime import UTC, datetime

import pytest
from tests.component.wire.apps import Clock
from tests.component.wire.harness import Backend, Proxy, echo, get
from tests.unit.operator.builders import endpoint, pieces, route, service, state

from stickyroute_api.reasons import ConditionType
from stickyroute_operator import status
from stickyroute_operator.ledger import Ledger, merge
from stickyroute_operator.reconcile import Acked, Carried
from stickyroute_operator.status import Seen, build
from stickyroute_operator.translate import translate
from stickyroute_proxy.affinity.report import report
from stickyroute_proxy.metrics import _served
from stickyroute_proxy.slices import at_once

SCOPE = "default/shop/web"
COOKIE = {"type": "Cookie", "sessionName": "JSESSIONID"}
APP_COOKIE = {"type": "AppCookie", "sessionName": "JSESSIONID", "learn": {"from": "ResponseCookie"}}
HEADER = {"type": "Header", "sessionName": "Mcp-Session-Id"}
APP_HEADER = HEADER | {"learn": {"from": "ResponseHeader"}}
SET = b"Set-Cookie: JSESSIONID=1A2B; Path=/; HttpOnly\r\n"
GIVEN = b"mcp-session-id: 1A2B\r\n"


class Shop:
    """One application behind a proxy, and what the operator would say of its route."""

    def __init__(self):
        self.clock = Clock()
        self.fields = b""
        """Of the application's answers."""
        self.before = b""
        """What comes before them."""
        self.revision = 0

    async def start(self):
        def reply(*_):
            return self.before + b"HTTP/1.1 200 OK\r\n" + self.fields + b"Content-Length: 0\r\n\r\n"

        self.pod = await Backend(echo(reply)).start()
        self.proxy = await Proxy(clock=self.clock).start()
        return self

    async def stop(self):
        await self.proxy.plane.drain(0, 0.2)
        await self.pod.stop()

    def apply(self, policy, **rule):
        rules = [{"name": "web", "backends": [{"service": "web", "port": 80}], **rule}]
        objects = service(), pieces(endpoint("web-1", "127.0.0.1"), port=self.pod.port)
        self.translation = translate(
            state(route(persistence=policy, rules=rules), *objects, allow_loopback=True)
        )
        self.revision += 1
        self.proxy.apply(self.translation.snapshot(1, self.revision))

    async def ask(self, times=1):
        """The heads of so many answers on one connection."""
        raw = await self.proxy.connect()
        heads = []
        for _ in range(times):
            await raw.send(get("/"))
            if self.before:
                heads.append(await raw.head())
            heads.append(await raw.head())
        await raw.close()
        return heads

    def told(self):
        """What CookieConflict says; None: there is none."""
        now = self.clock()
        table = self.proxy.plane.table
        scopes = merge(Ledger().add(at_once(report(table, "proxy-0", now, now))))
        verdict = self.translation.verdicts["default", "shop"]
        views = tuple(scopes[one] for one in verdict.scopes if one in scopes)
        proxies = (Acked("proxy-0", True, table.version),)
        seen = Seen(verdict, Carried(table.version, table.version), proxies, views, now)
        built = build(seen, None, datetime.fromtimestamp(now, UTC))
        condition = status.find(built, ConditionType.COOKIE_CONFLICT)
        return None if condition is None else condition.message

    def counted(self):
        return sum(value for name, _, value in _served(self.proxy.plane.table) if name.endswith("_clashes"))


@pytest.fixture
async def shop():
    one = await Shop().start()
    yield one
    await one.stop()


@pytest.mark.parametrize(
    ("ours", "theirs", "fields", "remedy"),
    [(COOKIE, APP_COOKIE, SET, "type AppCookie"), (HEADER, APP_HEADER, GIVEN, "learn.from ResponseHeader")],
    ids=["cookie", "header"],
)
async def test_what_the_application_loses_is_told_until_the_policy_is_another(
    shop, ours, theirs, fields, remedy
):
    shop.apply(ours)
    await shop.ask(2)
    assert (shop.told(), shop.counted()) == (None, 0)
    shop.fields = fields
    # Answers that are alike count each.
    for head in await shop.ask(3):
        assert b"1A2B" not in head
    assert shop.counted() == 3
    message = shop.told()
    for part in ("persistence.sessionName", "scope web", ours["sessionName"], "so far: 3", remedy):
        assert part in message
    assert "1A2B" not in message
    for policy in (theirs, ours | {"sessionName": "X-Other"}):
        shop.apply(policy)
        (head,) = await shop.ask()
        assert b"1A2B" in head
        assert (shop.told(), shop.counted()) == (None, 3)


@pytest.mark.parametrize(("policy", "fields"), [(COOKIE, SET), (HEADER, GIVEN)], ids=["cookie", "header"])
async def test_beside_a_filter_each_counts_once(shop, policy, fields):
    shop.fields = fields + b"Server: x\r\n"
    removes = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["Server"]}}
    shop.apply(policy, filters=[removes])
    assert not any(b"1A2B" in head or b"Server" in head for head in await shop.ask(2))
    assert shop.counted() == 2


@pytest.mark.parametrize(("policy", "fields"), [(COOKIE, SET), (HEADER, GIVEN)], ids=["cookie", "header"])
async def test_early_hints_count_too(shop, policy, fields):
    shop.apply(policy)
    shop.before = b"HTTP/1.1 103 Early Hints\r\n" + fields + b"\r\n"
    assert not any(b"1A2B" in head for head in await shop.ask(2))
    assert shop.counted() == 2


@pytest.mark.parametrize(
    "fields",
    [
        b"Set-Cookie: JSESSIONID=; Path=/\r\n",
        b"Set-Cookie: JSESSIONID=x; Max-Age=0\r\n",
        b"Set-Cookie: JSESSIONID=deleted; Expires=Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        b"Set-Cookie: JSESSIONID2=x\r\nX-A: JSESSIONID=x\r\n",
    ],
)
async def test_the_end_of_a_cookie_and_another_cookie_are_no_clash(shop, fields):
    """Who logs out ends all cookies that it knows of: nothing is lost by that."""
    shop.apply(COOKIE)
    shop.fields = fields
    await shop.ask(2)
    assert (shop.told(), shop.counted()) == (None, 0)


async def test_it_is_told_for_a_day_after_the_last(shop):
    shop.apply(COOKIE)
    shop.fields = SET
    await shop.ask()
    shop.clock.now += 86_000
    assert "so far: 1, the last 2027-01-15T08:00:00Z" in shop.told()
    await shop.ask()
    shop.clock.now += 86_000
    assert "so far: 2" in shop.told()
    shop.clock.now += 1_000
    assert (shop.told(), shop.counted()) == (None, 2)
