"""The one reconciler: the store's content to a published snapshot.

    poke ─▶ hold-off ─▶ translate ─▶ changed? revision + 1, publish ─▶ acknowledged? endpoints join

The first change goes through at once; those behind it are gathered.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Protocol

from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Snapshot, TokenKeys, Version
from stickyroute_operator.joining import CAP, Joining, Sets
from stickyroute_operator.objects import Key, Reference, Referent
from stickyroute_operator.store import Store
from stickyroute_operator.translate import State, Translation, translate

logger = logging.getLogger(__name__)

HOLD_OFF = 0.1
"""Seconds in which changes behind the first are gathered."""
HOLD_OFF_MAX = 1.0
"""The longest hold-off: it grows to the time that the work itself takes."""


class Publish(Protocol):
    """What the reconciler needs of the Publisher."""

    def publish(self, snapshot: Snapshot) -> None: ...


class Named(Protocol):
    """What the reconciler needs of the References."""

    @property
    def referents(self) -> Mapping[Reference, Referent]: ...

    def want(self, references: Collection[Reference]) -> None: ...


@dataclass(frozen=True, slots=True)
class Carried:
    """The snapshots in which a route changed last."""

    definition: Version
    """The route itself."""
    content: Version
    """The route or its endpoints."""


@dataclass(frozen=True, slots=True)
class Acked:
    """What one proxy says that it serves."""

    name: str
    ready: bool
    version: Version | None = None
    error: str | None = None
    """Why it does not take the wanted snapshot."""
    is_refusal: bool = False
    """It called the snapshot invalid, and was not merely out of reach."""


class Reconciler:
    """Keeps the fleet's snapshot in step with the store.

    `done` is called after each change of what is published or known of it.
    """

    def __init__(
        self,
        store: Store,
        fleet: str,
        publisher: Publish,
        done: Callable[[], None],
        *,
        named: Named | None = None,
        settings: Settings | None = None,
        is_ours: Callable[[Key], bool] = lambda _key: True,
        allow_shared_hosts: bool = False,
        may_cost: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.translation: Translation | None = None
        self.carried: dict[Key, Carried] = {}
        self.version: Version | None = None
        """The snapshot published last."""
        self.keys_since: dict[int, Version] = {}
        """By a token key's number, the first snapshot of this epoch since which all hold it."""
        self.published_at = 0.0
        self.starting_until = inf
        """Before that it is not known yet which endpoints the proxies knew all along: they seem to join."""
        self.took = 0.0
        """Seconds that the last reconciliation took."""
        self.runs = 0
        self._store = store
        self._fleet = fleet
        self._publisher = publisher
        self._done = done
        self._named = named
        self._settings = settings or Settings()
        self._is_ours = is_ours
        self._allow_shared_hosts = allow_shared_hosts
        self._may_cost = may_cost
        self._clock = clock
        self._now = now
        self._keys: TokenKeys | None = None
        self._epoch = 0
        self._revision = 0
        self._past: Sets = {}
        """The endpoint sets as they were published last, be it by another operator."""
        self._joining = Joining()
        self._acks: tuple[Acked, ...] = ()
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something changed: reconcile soon."""
        self._poked.set()

    def heeds(self, pod: Key) -> bool:
        """Whether a change of this pod may change anything: most of a cluster's are behind no route."""
        return self.translation is None or pod in self.translation.pods

    def take_keys(self, keys: TokenKeys) -> None:
        """The token keys to send from now on."""
        if keys != self._keys:
            self._keys = keys
            self.poke()

    def take_past(self, sets: Sets) -> None:
        """What the proxies serve when this begins: what began there, such as a drain, goes on."""
        self._past = sets

    def take_settings(self, settings: Settings) -> None:
        """What people say of the fleet from now on; what was found out about it stays."""
        found = {"zones": self._settings.zones, "proxies": self._settings.proxies}
        settings = settings.model_copy(update=found)
        if settings != self._settings:
            self._settings = settings
            self.poke()
            logger.info("the fleet's settings have changed")

    def take_zones(self, zones: dict[str, str]) -> None:
        """The zone of each proxy, by its pod's name."""
        if zones != self._settings.zones:
            self._settings = self._settings.model_copy(update={"zones": zones})
            self.poke()

    def take_proxies(self, count: int) -> None:
        """How many proxies the fleet has."""
        if count != self._settings.proxies:
            self._settings = self._settings.model_copy(update={"proxies": count})
            self.poke()

    def take_epoch(self, epoch: int) -> None:
        """Publishes under a new epoch from now on, beginning with what is wanted now."""
        self._epoch, self._revision = epoch, 0
        self.keys_since = {}
        self.version = None
        self.poke()

    def acknowledged(self, acks: tuple[Acked, ...]) -> None:
        """What the proxies serve now."""
        self._acks = acks
        if self._settle():
            self.poke()

    async def run(self) -> None:
        """Reconciles for ever, once the store is complete and keys and epoch are there."""
        while True:
            await self._until_poked()
            self._poked.clear()
            if not self._is_startable():
                continue
            self.step()
            await asyncio.sleep(min(max(HOLD_OFF, 2 * self.took), HOLD_OFF_MAX))

    def step(self) -> None:
        """One reconciliation. What users wrote cannot make it fail; a defect that does is logged."""
        start = self._clock()
        try:
            self._reconcile(start)
        except Exception:
            # The last good snapshot stays in force, and the next change is another try.
            logger.exception("reconciliation failed")
        self.runs += 1
        self.took = self._clock() - start

    def _reconcile(self, now: float) -> None:
        self._settle()
        if self.version is not None and self._joining.deadline is None:
            self.starting_until = min(self.starting_until, now)
        if self._keys is None:
            return
        state = State(
            fleet=self._fleet,
            keys=self._keys,
            routes={key: route for key, route in self._store.routes.items() if self._is_ours(key)},
            services=self._store.services,
            slices=self._store.slices,
            pods=self._store.pods,
            before=self._past,
            referents=dict(self._named.referents) if self._named is not None else {},
            on_demand=self._named is not None,
            now=self._now(),
            awaited={} if self.translation is None else self.translation.awaited,
            settings=self._settings,
            acknowledged=dict(self._joining.known),
            allow_shared_hosts=self._allow_shared_hosts,
            may_cost=self._may_cost,
        )
        before = self.translation
        translation = translate(state, before)
        if self._named is not None:
            self._named.want(translation.references)
            if before is None and not translation.references <= state.referents.keys():
                # The proxies may serve what is named: nothing is published before it has been read.
                return
        if self.version is None or not translation.same_content(before):
            version = Version(self._epoch, self._revision + 1)
            self._publisher.publish(translation.snapshot(*version))
            self._revision += 1
            self.carried = _carried(self.carried, before if self.version else None, translation, version)
            self.keys_since = {key: self.keys_since.get(key, version) for key in self._keys.keys}
            self.version, self.published_at = version, now
            self._joining.published(translation.endpoints, version, now)
            self.starting_until = min(self.starting_until, now + CAP)
        self.translation, self._past = translation, translation.endpoints
        self._done()

    def _settle(self) -> bool:
        return self._joining.settle((ack.version for ack in self._acks if ack.ready), self._clock())

    def _is_startable(self) -> bool:
        return self._store.listed and self._keys is not None and self._epoch > 0

    async def _until_poked(self) -> None:
        """Until something changed, a silent proxy or a pod was waited for long enough, or a drain is over."""
        left = inf if self.translation is None else self.translation.until - self._now().timestamp()
        if self._joining.deadline is not None:
            left = min(left, self._joining.deadline - self._clock())
        if left == inf:
            await self._poked.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, left)):
                await self._poked.wait()
        except TimeoutError:
            self.poke()


def _carried(
    known: Mapping[Key, Carried], before: Translation | None, after: Translation, version: Version
) -> dict[Key, Carried]:
    """In which snapshot each served route came last."""
    carried = {}
    for key, outcome in after.outcomes.items():
        route = outcome.route
        if route is None:
            continue
        last = known.get(key)
        old = before.outcomes.get(key) if before is not None else None
        if last is None or old is None or old.route != route:
            carried[key] = Carried(version, version)
        elif old.endpoint_sets is not outcome.endpoint_sets and old.endpoint_sets != outcome.endpoint_sets:
            carried[key] = Carried(last.definition, version)
        else:
            carried[key] = last
    return carried
