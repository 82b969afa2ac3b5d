"""The rotation of token keys: by time and by command, with no session in use lost.

    made ──every proxy holds it──▶ seals ──the next one does──▶ opens ──no token of it lives──▶ gone

All of its state is in the Secret, and each step is one guarded write of it that comes before the snapshot
that follows from it: an operator may end at any moment, and another goes on.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Protocol

from stickyroute_api.snapshot import Persistence, Route, TokenKeys
from stickyroute_operator import keys
from stickyroute_operator.cluster import CONFLICT, ApiError, HeldSecret
from stickyroute_operator.keys import COMMAND, StoredKey
from stickyroute_operator.pki import SecretError

logger = logging.getLogger(__name__)

EVERY: Final = timedelta(days=30)
"""How long a key seals where nothing else is said."""
ENDLESS: Final = timedelta(days=30)
"""How long a token without absoluteTimeout may be of use after it was sealed: in use it is sealed anew."""
WRAPPED: Final = timedelta(days=400)
"""The same of an envelope, which only the application's giving its value out anew seals anew.

As long as browsers keep a cookie that is not set anew (RFC 6265bis, section 5.5).
"""
SLACK: Final = timedelta(hours=1)
"""How long a proxy that is cut off may go on sealing with the key before."""
MAX_KEYS: Final = 32
"""More are never kept: a rotation waits until the oldest is gone. Twice those of WRAPPED by EVERY."""
MAX_IDS: Final = 256
RECENT: Final = timedelta(days=1)
"""How long a route still counts that is gone, invalid or has shorter timers: it may be mended."""
POLL = 10.0
"""Seconds between two looks at the Secret."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a rotation does next."""

    stored: tuple[StoredKey, ...]
    told: str
    """Names keys by their numbers only."""
    obeys: bool = False
    """It is what was ordered."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What decides of the next step."""

    now: datetime
    every: timedelta
    """0: only by command."""
    opens_for: timedelta
    """How long a key opens tokens after its last sealing."""
    ordered: bool = False


def step(
    stored: Sequence[StoredKey],
    terms: Terms,
    everywhere: Callable[[int], bool],
    random: Callable[[int], bytes] = os.urandom,
) -> Step | None:
    """The next step; None: nothing is to be done. `everywhere`: whether every proxy holds the key. Pure."""
    now = terms.now.astimezone(UTC)
    current = keys.sealing(stored)
    if gone := _useless(stored, terms):
        left = tuple(entry for entry in stored if entry not in gone)
        numbers = ", ".join(str(entry.id) for entry in gone)
        return Step(left, f"token key {numbers} opens no token that could still be of use: it is gone")
    made = max((entry for entry in stored if entry.seals_from is None), key=_age, default=None)
    if made is not None:
        if not everywhere(made.id):
            return None
        sealed = made.model_copy(update={"seals_from": now})
        rest = tuple(entry for entry in stored if entry is not made)
        return Step((*rest, sealed), f"token key {made.id} seals from now on, key {current.id} still opens")
    is_due = terms.every > timedelta() and now - (current.seals_from or now) >= terms.every
    if not (terms.ordered or is_due) or len(stored) >= MAX_KEYS:
        return None
    fresh = StoredKey(id=_next_id(stored), key=keys.fresh(random), created=now)
    told = f"token key {fresh.id} is made; it seals once every proxy holds it"
    return Step((*stored, fresh), told, obeys=terms.ordered)


def opens_for(routes: Iterable[Route]) -> timedelta:
    """How long a token of any of these routes may be of use after it was sealed."""
    lives = [
        life for route in routes for rule in route.rules if (life := _life(rule.persistence)) is not None
    ]
    return max(lives, default=ENDLESS)


def _life(policy: Persistence) -> timedelta | None:
    """None: it has no tokens, nor bindings in the store, which are sealed as they are."""
    if policy.type in {"None", "QueryParam", "SourceIP"}:
        return None
    if policy.absolute_timeout is not None:
        return timedelta(seconds=policy.absolute_timeout)
    if policy.learn == "Envelope":
        return WRAPPED
    return max(ENDLESS, timedelta(seconds=1.1 * (policy.idle_timeout or 0.0)))


def _useless(stored: Sequence[StoredKey], terms: Terms) -> list[StoredKey]:
    """The keys whose last token has ended; each sealed until the next one began to."""
    sealed = sorted((entry for entry in stored if entry.seals_from), key=_began)
    return [
        entry
        for entry, successor in pairwise(sealed)
        if terms.now - _began(successor) > terms.opens_for + SLACK
    ]


def _began(entry: StoredKey) -> datetime:
    return entry.seals_from or entry.created


def _age(entry: StoredKey) -> tuple[datetime, int]:
    return entry.created, entry.id


def _next_id(stored: Sequence[StoredKey]) -> int:
    """The one after the newest, over 255 to 0, that no key has: a number comes again as late as it can."""
    taken = {entry.id for entry in stored}
    newest = max(stored, key=_age).id
    return next(number for ahead in range(1, MAX_IDS) if (number := (newest + ahead) % MAX_IDS) not in taken)


class KeySecret(Protocol):
    """What of the API this needs; `cluster.Secrets` has it."""

    async def look(self, name: str) -> HeldSecret: ...

    async def change(
        self, name: str, version: str, data: Mapping[str, bytes], without: Collection[str] = ()
    ) -> None: ...


class Rotation:
    """Rotates the keys of one Secret, and tells of those that there are.

    `take` gets the keys after each look, `everywhere` says whether every proxy holds a key, `opens_for` how
    long one opens after its last sealing; None: not known yet. `now` is the wall clock.
    """

    def __init__(
        self,
        secret: KeySecret,
        name: str,
        take: Callable[[TokenKeys], None],
        everywhere: Callable[[int], bool],
        opens_for: Callable[[], timedelta | None],
        *,
        every: timedelta = EVERY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._secret = secret
        self._name = name
        self._take = take
        self._everywhere = everywhere
        self._opens_for = opens_for
        self._every = every
        self._now = now
        self._random = random
        self._lives: dict[timedelta, datetime] = {}
        """How long keys have had to open of late, and when each of these was so last."""
        self._waits_for: int | None = None
        """The key that is being handed out."""
        self._told = ""
        self._poked = asyncio.Event()

    def acknowledged(self) -> None:
        """Proxies hold another snapshot now."""
        if self._waits_for is not None and self._everywhere(self._waits_for):
            self._poked.set()

    async def run(self) -> None:
        """Rotates until cancelled."""
        while True:
            self._poked.clear()
            try:
                while await self.once():
                    pass
            except (ApiError, SecretError) as error:
                if str(error) != self._told:
                    logger.warning("the rotation of token keys waits: %s", error)
                self._told = str(error)
            else:
                self._told = ""
            try:
                async with asyncio.timeout(POLL):
                    await self._poked.wait()
            except TimeoutError:
                continue

    async def once(self) -> bool:
        """One look at the Secret, and one step if there is one; whether there may be another at once.

        Raises ApiError and SecretError.
        """
        life = self._opens_for()
        if life is None:
            return False
        held = await self._secret.look(self._name)
        stored = keys.read(self._name, held.data)
        terms = Terms(self._now(), self._every, self._recent(life), ordered=COMMAND in held.annotations)
        todo = step(stored, terms, self._everywhere, self._random)
        if todo is not None:
            without = [COMMAND] if todo.obeys else []
            try:
                await self._secret.change(self._name, held.version, keys.written(todo.stored), without)
            except ApiError as error:
                if error.status == CONFLICT:  # it was changed meanwhile: what it says now counts
                    return True
                raise
            logger.info("%s", todo.told)
            stored = list(todo.stored)
        self._waits_for = next((entry.id for entry in stored if entry.seals_from is None), None)
        self._take(keys.tokens(stored, keys.hashing_key(held.data)))
        if todo is None and terms.ordered and self._waits_for is None:
            raise SecretError(
                f"Secret {self._name} holds {len(stored)} keys, each of which may still open a token:"
                " a further one is made when the oldest is gone"
            )
        return todo is not None

    def _recent(self, life: timedelta) -> timedelta:
        """How long keys open, that being what the routes say now."""
        now = self._now()
        self._lives = {old: last for old, last in self._lives.items() if old > life and now - last < RECENT}
        self._lives[life] = now
        return max(self._lives)
