"""Keeps pods' deletion cost in step with their sessions, so that scale-in takes the emptiest first.

`costs` is pure: what each pod should cost. `Costs` writes what has changed noticeably, a few a second.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from stickyroute_api.reasons import EndpointState
from stickyroute_operator.cluster import NOT_FOUND, PODS, ApiError, Resource
from stickyroute_operator.ledger import ScopeView
from stickyroute_operator.objects import Key
from stickyroute_operator.translate import Translation
from stickyroute_operator.uses import uses

logger = logging.getLogger(__name__)

ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
MOST: Final = 2**31 - 1
"""Kubernetes takes an int32."""
SHARE: Final = 0.1
SESSIONS: Final = 5
"""A change by so many, or by that share, is told; and each to 0 or from it."""
PACE: Final = 5.0
"""Seconds between two looks."""
PAUSE: Final = 0.25
"""Seconds between two writes: four a second at most."""


class Cost(NamedTuple):
    """What a pod should cost."""

    uid: str
    sessions: int


class Patches(Protocol):
    """What of the API this needs; `cluster.Cluster` has it."""

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, part: str = ""
    ) -> dict[str, Any]: ...


def costs(translation: Translation, views: Mapping[str, ScopeView]) -> dict[Key, Cost]:
    """The cost of each pod of scopes that ask for it: its active sessions in all of them."""
    asked = {scope for verdict in translation.verdicts.values() for scope in verdict.deletion_costs}
    places = set(_places(translation, asked))
    counted = {
        (scope, one.endpoint): one.active
        for scope in asked
        if scope in views
        for one in views[scope].endpoints
    }
    found: dict[Key, Cost] = {}
    for pod, uid, scope in places:
        known = found.get(pod)
        before = known.sessions if known is not None and known.uid == uid else 0
        found[pod] = Cost(uid, min(MOST, before + counted.get((scope, uid), 0)))
    return found


def _places(translation: Translation, asked: Collection[str]) -> Iterator[tuple[Key, str, str]]:
    """Each pod, its UID and a scope that asks, without those that end."""
    for scope, _, namespace, endpoints in uses(translation.routes, translation.endpoints):
        if scope not in asked:
            continue
        for one in endpoints:
            # An endpoint that names no pod has its address for a name.
            if one.pod != one.id and one.state is not EndpointState.DRAINING:
                yield (namespace, one.pod), one.id, scope


def is_noticeable(old: int | None, new: int) -> bool:
    """Whether a changed cost is to be written; None: it is not known what the pod has."""
    if old is None or (old == 0) != (new == 0):
        return old != new
    return abs(new - old) >= min(SESSIONS, SHARE * old) and new != old


class Costs:
    """Writes what `wanted` says; None: too little is known yet."""

    def __init__(
        self,
        patches: Patches,
        wanted: Callable[[], Mapping[Key, Cost] | None],
        lives: Callable[[Key, str], bool],
        *,
        pace: float = PACE,
        pause: float = PAUSE,
    ) -> None:
        """`lives`: whether the pod of that name still has that UID, and has not been told to end."""
        self._patches = patches
        self._wanted = wanted
        self._lives = lives
        self._pace = pace
        self._pause = pause
        self._written: dict[Key, Cost] = {}
        self._told = ""

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            wanted = self._wanted()
            if wanted is not None:
                await self.step(wanted)
            await asyncio.sleep(self._pace)

    async def step(self, wanted: Mapping[Key, Cost]) -> None:
        """Write all that has changed noticeably, and take back what nobody asks for any more."""
        for pod, before in list(self._written.items()):
            if pod not in wanted and (not self._lives(pod, before.uid) or await self._write(pod, before.uid)):
                del self._written[pod]
        for pod, cost in sorted(wanted.items()):
            known = self._written.get(pod)
            old = known.sessions if known is not None and known.uid == cost.uid else None
            if is_noticeable(old, cost.sessions) and await self._write(pod, cost.uid, cost.sessions):
                self._written[pod] = cost

    async def _write(self, pod: Key, uid: str, sessions: int | None = None) -> bool:
        """Set the annotation, or remove it; whether that was possible."""
        value = None if sessions is None else str(sessions)
        # The uid makes the write fail when another pod has taken the name.
        body = {"metadata": {"uid": uid, "annotations": {ANNOTATION: value}}}
        try:
            await self._patches.patch(PODS, *pod, body)
        except ApiError as error:
            if error.status == NOT_FOUND:
                return sessions is None
            if str(error) != self._told:
                self._told = str(error)
                logger.warning("deletion cost of pod %s/%s: %s; trying again", *pod, error)
            return False
        finally:
            await asyncio.sleep(self._pause)
        self._told = ""
        return True
