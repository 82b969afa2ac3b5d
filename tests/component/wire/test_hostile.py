"""Hostile keys on the wire: none is accepted, and each has the answer that a request without a key has."""

import asyncio
import re
from contextlib import AsyncExitStack
from itertools import islice
from random import Random

import pytest
from tests.component.wire.harness import COOKIE, echo, eventually, fleet, get, serving
from tests.component.wire.valkeys import valkey
from tests.hostile import ANYWHERE, HOSTILE, Good

from stickyroute_api import snapshot
from stickyroute_api.reasons import BindingReason
from stickyroute_api.settings import Settings, Store
from stickyroute_proxy.affinity.token import LENGTH

KEY = re.compile(rb"[A-Za-z0-9_-]{%d}" % LENGTH)
LANES, AHEAD = 8, 8
NO_SESSION = {
    BindingReason.NEW,
    BindingReason.INVALID_TOKEN,
    BindingReason.KEY_RETIRED,
    BindingReason.EPOCH_RAISED,
}
ALLOWED = bytes(byte if byte in ANYWHERE else ord("!") for byte in range(256))

KINDS = {
    "Cookie": (10_000, {"type": "Cookie", "cookie": snapshot.Cookie(name=COOKIE)}, b"Cookie: sr=%b"),
    "Header": (1_000, {"type": "Header", "name": "X-Session"}, b"X-Session: %b"),
    "Envelope": (1_000, {"type": "AppCookie", "name": "ID", "learn": "Envelope"}, b"Cookie: ID=%b"),
    "Store": (1_000, {"type": "AppCookie", "name": "ID", "learn": "Store"}, b"Cookie: ID=%b"),
}
"""How many hostile keys, the policy, and the field that shows one."""


def application(random):
    """Gives a session of its own to every request: values as long, and as hard to guess, as tokens."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    def reply(*_):
        value = bytes(random.choices(alphabet, k=LENGTH))
        return b"HTTP/1.1 200 OK\r\nSet-Cookie: ID=%b; Path=/\r\nContent-Length: 2\r\n\r\nok" % value

    return echo(reply)


def shape(answer):
    """An answer without its date, and without which key it gives."""
    head, body = answer
    return KEY.sub(b"KEY", re.sub(rb"(?i)\r\ndate: [^\r]*", b"", head)), body


def given(answer, field):
    """The key that an answer gives out."""
    name = field.removeprefix(b"Cookie: ").removesuffix(b"%b")
    return re.search(re.escape(name) + rb"([^;\r]+)", answer[0])[1]


def hostile(random, kind, good):
    """One key, as the bytes of a field's value."""
    if kind == "Envelope" and random.random() < 0.1:
        return random.choice(
            [good.token + b"~!" + good.value[2:], good.token + good.value + b"x", good.token]
        )
    made = random.choice(tuple(HOSTILE))
    return (HOSTILE[made](random, good) + good.value).translate(ALLOWED)


def lines(random, field, key):
    """The fields that show a key: as a rule once, else a hundred times in one field or in as many."""
    way = random.randrange(20)
    if way > 1 or len(key) > 240:
        return [field % key]
    if way == 1:
        return [field % key] * 100
    name, _, value = field.partition(b" ")
    return [name + b" " + (b"; " if name == b"Cookie:" else b", ").join([value % key] * 100)]


async def asked(proxy, requests):
    """The answers to the requests, of which each of some connections has a few under way."""
    left = iter(enumerate(requests))
    answers = {}

    async def lane():
        raw = await proxy.connect()
        while batch := list(islice(left, AHEAD)):
            await raw.send(b"".join(request for _, request in batch))
            for at, _ in batch:
                answers[at] = await raw.answer()
        await raw.close()

    await asyncio.gather(*(lane() for _ in range(LANES)))
    return [answers[at] for at in range(len(requests))]


def request(fields):
    return get()[:-2] + b"".join(line + b"\r\n" for line in fields) + b"\r\n"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hostile_key_is_no_key_and_nobody_can_tell(kind, caplog):
    count, policy, field = KINDS[kind]
    random = Random(20261125)
    async with AsyncExitStack() as stack:
        settings = Settings()
        if kind == "Store":
            server = await stack.enter_async_context(valkey())
            settings = Settings(store=Store(address=f"127.0.0.1:{server.port}"))
        scripts = [application(random) for _ in range(2)]
        persistence = snapshot.Persistence(**policy)
        proxy, *_ = await stack.enter_async_context(
            serving(*scripts, settings=settings, persistence=persistence)
        )
        if kind == "Store":
            await eventually(lambda: proxy.plane.counters.store_reachable)
        scope = proxy.plane.table.scopes["shop/shop/web"]
        old = [given(answer, field) for answer in await asked(proxy, [get()] * (count // 20))]
        assert len(set(old)) == len(old)
        before = proxy.plane.table.snapshot
        raised = fleet(
            *before.endpoints["shop/web:80"],
            revision=2,
            settings=settings,
            persistence=persistence.model_copy(update={"epoch": 1}),
        )
        proxy.apply(raised)
        assert proxy.plane.table.scopes["shop/shop/web"] is scope

        (missing,) = await asked(proxy, [get()])
        key = given(missing, field)
        (bound,) = await asked(proxy, [request([field % key])])
        assert scope.bound == 1  # the key that all the others are made of is a good one
        token, tilde, value = key.partition(b"~")
        good = Good(token, next(iter(scope.named)), tilde + value, proxy.plane.clock())
        keys = old + [hostile(random, kind, good) for _ in range(count - len(old))]
        random.shuffle(keys)
        others = dict(scope.others)
        answers = await asked(proxy, [request(lines(random, field, key)) for key in keys])
        differing = {
            shape(answer): key
            for answer, key in zip(answers, keys, strict=True)
            if shape(answer) != shape(missing)
        }
        assert not differing
        assert scope.bound == 1
        found = {reason: number - others.get(reason, 0) for reason, number in scope.others.items()}
        assert sum(found.values()) == count
        assert {reason for reason, number in found.items() if number} <= NO_SESSION
        assert found[BindingReason.EPOCH_RAISED] == len(old)
        assert shape((await asked(proxy, [request([field % key])]))[0]) == shape(bound)
        assert scope.bound == 2
        assert not caplog.records
