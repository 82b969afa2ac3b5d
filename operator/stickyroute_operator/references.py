"""Secrets and ConfigMaps that routes name: each read by its name, never listed and never watched.

    want ─▶ read at once ─▶ read again every so often ─▶ wanted no more

So the operator needs no right but `get`, and holds nothing that no route names. One that cannot be read
keeps what was read of it last: only the answer that there is none takes it away.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from math import inf
from random import Random
from typing import Any, Protocol

from stickyroute_operator.cluster import CONFIG_MAPS, NOT_FOUND, SECRETS, ApiError, Resource
from stickyroute_operator.objects import ABSENT, Missing, Reference, Referent, referent

logger = logging.getLogger(__name__)

INTERVAL = 20.0
"""Seconds between two reads of one object; a renewed certificate is served that soon."""
RETRY = 1.0
"""Seconds after a failed read of one that was never read, and at first after one that found nothing."""
PATIENCE = 30.0
"""Seconds in which an object that was never read is tried, before its routes are told that it is missing."""
PATIENCE_IF_REFUSED = 3.0
"""The same where the API server refuses it: one that has just started does so for a moment."""
READERS = 8
"""Objects being read at one time."""
SPREAD = 0.25
"""The share of the interval by which reads come apart."""
FORBIDDEN = 403

_random = Random().random  # noqa: S311 - spreads load
_RESOURCES = {"Secret": SECRETS, "ConfigMap": CONFIG_MAPS}


class Reads(Protocol):
    """What of the API this needs; `cluster.Cluster` has it."""

    async def read(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]: ...


class References:
    """Keeps what references lead to. `changed` is called when that is something else than before."""

    def __init__(
        self,
        reads: Reads,
        changed: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random,
    ) -> None:
        self.referents: dict[Reference, Referent] = {}
        """By reference; what is wanted and not here has not been read yet."""
        self._reads = reads
        self._changed = changed
        self._clock = clock
        self._random = random
        self._due: dict[Reference, float] = {}
        """When each wanted object is to be read next; infinite while it is being read."""
        self._since: dict[Reference, float] = {}
        """When each was first wanted."""
        self._versions: dict[Reference, str] = {}
        self._told: dict[Reference, str] = {}
        """The last failure of each, so that it is logged once."""
        self._poked = asyncio.Event()

    def want(self, references: Collection[Reference]) -> None:
        """These, and no others, from now on."""
        for gone in self._due.keys() - references:
            for kept in (self.referents, self._due, self._since, self._versions, self._told):
                kept.pop(gone, None)
        now = self._clock()
        for new in references - self._due.keys():
            self._due[new] = self._since[new] = now
            self._poked.set()

    async def run(self) -> None:
        """Reads until cancelled."""
        readers = asyncio.Semaphore(READERS)
        async with asyncio.TaskGroup() as tasks:
            while True:
                now = self._clock()
                for reference in [one for one, due in self._due.items() if due <= now]:
                    await readers.acquire()
                    if reference not in self._due:
                        readers.release()
                        continue
                    self._due[reference] = inf
                    task = tasks.create_task(self._read(reference))
                    task.add_done_callback(lambda _: readers.release())
                await self._until_due()

    async def _read(self, reference: Reference) -> None:
        try:
            manifest = await self._reads.read(_RESOURCES[reference.kind], reference.namespace, reference.name)
        except ApiError as error:
            self._failed(reference, error)
        else:
            self._told.pop(reference, None)
            version = str((manifest.get("metadata") or {}).get("resourceVersion") or "")
            if not version or self._versions.get(reference) != version:
                self._take(reference, referent(reference.kind, manifest), version)
        if reference in self._due:
            self._due[reference] = self._clock() + self._pause(reference)
            self._poked.set()

    def _pause(self, reference: Reference) -> float:
        """Seconds until the next read. What does not exist yet is often about to: applied with the route."""
        if reference not in self.referents:
            return RETRY
        usual = INTERVAL * (1 - SPREAD * self._random())
        if self.referents[reference] is not ABSENT:
            return usual
        return min(usual, max(RETRY, (self._clock() - self._since[reference]) / 4))

    def _failed(self, reference: Reference, error: ApiError) -> None:
        if error.status == NOT_FOUND:
            self._take(reference, ABSENT)
            return
        if reference not in self._due:
            return
        refused = error.status == FORBIDDEN
        until = self._since[reference] + (PATIENCE_IF_REFUSED if refused else PATIENCE)
        if reference not in self.referents and self._clock() >= until:
            why = "may not be read: give the operator the right to get it" if refused else "cannot be read"
            self._take(reference, Missing(f"{why} ({error})"))
        if self._told.get(reference) != str(error):
            self._told[reference] = str(error)
            logger.warning("%s, which a route names: %s", reference, error)

    def _take(self, reference: Reference, found: Referent, version: str = "") -> None:
        if reference not in self._due:
            return  # wanted no more
        if version:
            self._versions[reference] = version
        else:
            self._versions.pop(reference, None)
        if self.referents.get(reference) != found:
            self.referents[reference] = found
            self._changed()

    async def _until_due(self) -> None:
        """Until the next read is due, or something new is wanted."""
        self._poked.clear()
        first = min(self._due.values(), default=inf)
        try:
            async with asyncio.timeout(None if first == inf else max(0.0, first - self._clock())):
                await self._poked.wait()
        except TimeoutError:
            return
