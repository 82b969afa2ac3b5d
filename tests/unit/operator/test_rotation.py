"""Keys come one after the other, and no token loses the key that opens it."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stickyroute_api.snapshot import Cookie, Persistence, Route, Rule
from stickyroute_operator import keys
from stickyroute_operator.cluster import CONFLICT, ApiError, HeldSecret
from stickyroute_operator.keys import COMMAND, StoredKey
from stickyroute_operator.pki import SecretError
from stickyroute_operator.rotation import (
    ENDLESS,
    MAX_KEYS,
    RECENT,
    SLACK,
    WRAPPED,
    Rotation,
    Terms,
    opens_for,
    step,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = base64.b64encode(bytes(32)).decode()


def key(number, seals=None, made=None):
    """`seals`: since how many days; None: it does not yet."""
    began = None if seals is None else NOW - seals * DAY
    created = NOW - made * DAY if made is not None else began or NOW
    return StoredKey(id=number, key=KEY, created=created, seals_from=began)


def told(stored, *, everywhere=(), every=30 * DAY, life=DAY, ordered=False):
    terms = Terms(NOW, every, life, ordered)
    return step(stored, terms, lambda number: number in everywhere, bytes)


def numbers(taken):
    return None if taken is None else [(one.id, one.seals_from is not None) for one in taken.stored]


@pytest.mark.parametrize(
    ("stored", "more", "expected"),
    [
        ([key(1, 29)], {}, None),
        ([key(1, 30)], {}, [(1, True), (2, False)]),
        ([key(1, 300)], {"every": timedelta()}, None),
        ([key(1, 0)], {"ordered": True}, [(1, True), (2, False)]),
        ([key(1, 0)], {"ordered": True, "every": timedelta()}, [(1, True), (2, False)]),
        # One is handed out: first it seals, then comes what was ordered meanwhile.
        ([key(1, 40), key(2)], {"ordered": True}, None),
        ([key(1, 40), key(2)], {"everywhere": [1]}, None),
        ([key(1, 40), key(2)], {"everywhere": [1, 2], "ordered": True}, [(1, True), (2, True)]),
        ([key(1, 40), key(2, 0)], {"ordered": True}, [(1, True), (2, True), (3, False)]),
        # The key before opens for a token's life, and an hour, after the next one began to seal.
        ([key(1, 40), key(2, 1)], {}, None),
        ([key(1, 40), key(2, 1 + 0.9 / 24)], {}, None),
        ([key(1, 40), key(2, 1 + 1.1 / 24)], {}, [(2, True)]),
        ([key(1, 40), key(2, 20), key(3, 0.5)], {}, [(2, True), (3, True)]),
        ([key(1, 40), key(2, 20), key(3, 10)], {}, [(3, True)]),
        ([key(1, 40), key(2, 20)], {"life": 30 * DAY}, None),
        # Numbers go round, past those that are in use.
        ([key(255, 30)], {"life": 99 * DAY}, [(255, True), (0, False)]),
        (
            [key(0, 50), key(1, 45), key(255, 30)],
            {"life": 99 * DAY},
            [(0, True), (1, True), (255, True), (2, False)],
        ),
        ([key(n, 40 - n / 10) for n in range(MAX_KEYS)], {"life": 99 * DAY, "ordered": True}, None),
    ],
)
def test_the_next_step(stored, more, expected):
    assert numbers(told(stored, **more)) == expected


def test_what_is_told_names_numbers_only():
    steps = [
        told([key(1, 30)]),
        told([key(1, 30), key(2)], everywhere=[2]),
        told([key(1, 40), key(2, 20)]),
    ]
    assert [one.told for one in steps] == [
        "token key 2 is made; it seals once every proxy holds it",
        "token key 2 seals from now on, key 1 still opens",
        "token key 1 opens no token that could still be of use: it is gone",
    ]
    assert all(KEY not in repr(one) for one in steps)


def policy(**more):
    persistence = Persistence(**{"type": "Cookie", "cookie": Cookie(name="s")} | more)
    rule = Rule(name="app", matches=(), backends=(), scope="web", persistence=persistence)
    return Route(namespace="default", name="shop", created=0, rules=(rule,))


@pytest.mark.parametrize(
    ("routes", "life"),
    [
        ([], ENDLESS),
        ([policy(type="None", cookie=None)], ENDLESS),
        ([policy(absolute_timeout=3600)], timedelta(hours=1)),
        ([policy(absolute_timeout=3600), policy(absolute_timeout=7200)], timedelta(hours=2)),
        ([policy(absolute_timeout=3600), policy(idle_timeout=60)], ENDLESS),
        ([policy(idle_timeout=40 * 86400)], 44 * DAY),
        # What the store holds is sealed too.
        ([policy(absolute_timeout=60), policy(type="AppCookie", name="J", learn="Store")], ENDLESS),
        # An envelope is not sealed anew by its use.
        ([policy(absolute_timeout=60), policy(type="AppCookie", name="J", learn="Envelope")], WRAPPED),
        ([policy(type="Header", name="S", learn="Envelope", absolute_timeout=60)], timedelta(minutes=1)),
        ([policy(absolute_timeout=60), policy(type="SourceIP", cookie=None)], timedelta(minutes=1)),
    ],
)
def test_how_long_a_key_opens(routes, life):
    assert opens_for(routes) == life


def test_an_envelope_opens_for_as_long_as_browsers_keep_it_and_commands_need_not_wait():
    """400 days after any sealing, with a rotation by time and another by command each month."""
    route = policy(type="AppCookie", name="J", learn="Envelope")
    stored, sealed = (key(0, 0),), []
    for day in range(1200):
        now = NOW + day * DAY
        sealed.append(keys.sealing(stored).id)
        taken = True
        terms = Terms(now, timedelta(days=30), opens_for([route]), ordered=day % 30 == 15)
        while taken:
            taken = step(stored, terms, lambda _: True, bytes)
            stored = taken.stored if taken else stored
            terms = replace(terms, ordered=terms.ordered and not (taken and taken.obeys))
        assert not terms.ordered
        assert set(sealed[-401:]) <= {one.id for one in stored}


class Secret:
    """One Secret of the API server."""

    def __init__(self, stored):
        self.held = HeldSecret(keys.written(stored) | {keys.HASHING: KEY.encode()}, {}, "1")
        self.before = lambda: None
        """Called before each write."""

    async def look(self, _name):
        return self.held

    async def change(self, _name, version, data, without=()):
        self.before()
        if version != self.held.version:
            raise ApiError("changed", CONFLICT)
        annotations = {name: value for name, value in self.held.annotations.items() if name not in without}
        self.held = HeldSecret(self.held.data | data, annotations, str(int(version) + 1))

    def order(self):
        version = str(int(self.held.version) + 1)
        self.held = HeldSecret(self.held.data, {**self.held.annotations, COMMAND: "now", "own": "x"}, version)

    @property
    def stored(self):
        return keys.read("it", self.held.data)


def rotation(secret, taken, everywhere=lambda _: True, life=DAY):
    return Rotation(
        secret,
        "it",
        taken.append,
        everywhere,
        lambda: life,
        every=timedelta(),
        now=lambda: NOW,
        random=bytes,
    )


async def test_an_order_is_obeyed_once_and_taken_off():
    secret, taken = Secret([key(1, 0)]), []
    secret.order()
    rotating = rotation(secret, taken, everywhere=lambda number: number in taken[-1].keys)
    while await rotating.once():
        pass
    assert [(one.sealing, sorted(one.keys)) for one in taken] == [(1, [1, 2]), (2, [1, 2]), (2, [1, 2])]
    assert dict(secret.held.annotations) == {"own": "x"}
    assert taken[-1].hashing == KEY


async def test_nothing_is_done_before_the_routes_are_known():
    secret, taken = Secret([key(1, 0)]), []
    secret.order()
    assert not await rotation(secret, taken, life=None).once()
    assert taken == []


async def test_a_secret_that_changed_meanwhile_is_read_again():
    secret, taken = Secret([key(1, 0)]), []
    secret.order()

    def interfere():
        secret.before = lambda: None
        secret.order()

    secret.before = interfere
    rotating = rotation(secret, taken, everywhere=lambda _: False)
    assert await rotating.once()
    assert taken == []
    assert await rotating.once()
    assert not await rotating.once()
    assert [one.id for one in secret.stored] == [1, 2]


async def test_an_order_that_must_wait_is_told_and_stays():
    secret, taken = Secret([key(n, 40 - n) for n in range(MAX_KEYS)]), []
    secret.order()
    with pytest.raises(SecretError, match=f"holds {MAX_KEYS} keys"):
        await rotation(secret, taken, life=99 * DAY).once()
    assert taken[-1].sealing == MAX_KEYS - 1
    assert COMMAND in secret.held.annotations


async def test_keys_outlive_a_route_that_is_invalid_for_a_while():
    """Its tokens are of use again once it is mended; a key that is gone is gone for good."""
    secret, lives, clock = Secret([key(1, 100), key(2, 40)]), [400 * DAY], [NOW]
    rotating = Rotation(
        secret,
        "it",
        lambda _: None,
        lambda _: True,
        lambda: lives[-1],
        every=timedelta(),
        now=lambda: clock[-1],
        random=bytes,
    )
    assert not await rotating.once()
    lives.append(30 * DAY)
    clock.append(NOW + RECENT - timedelta(seconds=1))
    assert not await rotating.once()
    assert [one.id for one in secret.stored] == [1, 2]
    lives.append(400 * DAY)
    assert not await rotating.once()
    lives.append(30 * DAY)
    clock.append(clock[-1] + RECENT)
    assert await rotating.once()
    assert [one.id for one in secret.stored] == [2]


async def test_each_route_that_went_counts_for_a_day_of_its_own():
    """One that went in the day of another's end is of use again as well, once it is mended."""
    secret, lives, clock = Secret([key(1, 100), key(2, 40)]), [400 * DAY], [NOW]
    rotating = Rotation(
        secret,
        "it",
        lambda _: None,
        lambda _: True,
        lambda: lives[-1],
        every=timedelta(),
        now=lambda: clock[-1],
        random=bytes,
    )
    for life, hours in ((400, 0), (60, 23), (30, 23.5), (30, 46)):
        lives.append(life * DAY)
        clock.append(NOW + timedelta(hours=hours))
        assert not await rotating.once(), hours
    clock.append(NOW + timedelta(hours=47))
    assert await rotating.once()


class Fleet:
    """Proxies that take keys late, an operator that may end at any moment, and tokens on their way."""

    LIFE = timedelta(hours=1)

    def __init__(self, seed):
        self.random = Random(seed)
        self.now = NOW
        self.secret = Secret([StoredKey(id=1, key=self.fresh(32), created=NOW, seals_from=NOW)])
        self.published = keys.tokens(self.secret.stored, KEY)
        self.proxies = [self.published] * 3
        self.caught_up = NOW
        self.tokens = []
        self.start()

    def fresh(self, size):
        return base64.b64encode(self.random.randbytes(size)).decode()

    def start(self):
        """An operator: what it publishes first is what the Secret says."""
        self.rotation = Rotation(
            self.secret,
            "it",
            self.publish,
            lambda number: all(number in held.keys for held in self.proxies),
            lambda: self.LIFE,
            every=timedelta(minutes=90),
            now=lambda: self.now,
            random=self.random.randbytes,
        )

    def publish(self, taken):
        self.published = taken

    async def turn(self):
        match self.random.randrange(8):
            case 0:
                self.now += timedelta(minutes=self.random.randrange(25))
            case 1 | 2:
                self.proxies[self.random.randrange(3)] = self.published
            case 3:
                self.secret.order()
            case 4:  # it ends: after its write, and before it could publish
                self.rotation._take = lambda _taken: None
                await self.look()
                self.start()
                await self.look()
            case _:
                await self.look()
        if self.now > self.caught_up + SLACK / 3:  # no proxy is cut off for as long as an hour
            self.proxies, self.caught_up = [self.published] * 3, self.now
        for held in self.proxies:
            self.tokens.append((self.now, held.sealing, held.keys[held.sealing]))

    async def look(self):
        try:
            await self.rotation.once()
        except SecretError:  # as many as there may be
            assert len(self.secret.stored) == MAX_KEYS

    def check(self):
        self.tokens = [token for token in self.tokens if token[0] + self.LIFE > self.now]
        for _, number, secret in self.tokens:
            assert all(held.keys.get(number) == secret for held in self.proxies)
        assert len(self.secret.stored) <= MAX_KEYS


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=1 << 32))
async def test_every_token_in_use_is_opened_by_every_proxy_whatever_happens_when(seed):
    fleet = Fleet(seed)
    for _ in range(150):
        await fleet.turn()
        fleet.check()


async def test_it_rotates_at_all():
    fleet = Fleet(3)
    for _ in range(400):
        await fleet.turn()
        fleet.check()
    assert max(one.created for one in fleet.secret.stored) > NOW
    assert min(one.created for one in fleet.secret.stored) > NOW, "the first key is gone"
