"""Keeps our Events: one object per route and reason, counted up, so that `kubectl describe` stays short."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from stickyroute_api.spec import API_VERSION, KIND
from stickyroute_operator.cluster import CONFLICT, EVENTS, NOT_FOUND, ApiError, Resource
from stickyroute_operator.events import Event
from stickyroute_operator.objects import RouteObject

logger = logging.getLogger(__name__)

REMEMBERED = 4096
"""Counts that are held; of others the API server is asked."""
MAX_MESSAGE = 1000
"""Characters; the API server takes 1,024."""
COMPONENT = "stickyroute-operator"


class Objects(Protocol):
    """What of the API this needs; `cluster.Cluster` has it."""

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]: ...

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], *, part: str = ""
    ) -> dict[str, Any]: ...


class Journal:
    """Writes Events on StickyRoutes. `instance` names this operator's pod."""

    def __init__(self, objects: Objects, instance: str, now: Callable[[], datetime]) -> None:
        self._objects = objects
        self._instance = instance
        self._now = now
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def write(self, route: RouteObject, event: Event) -> None:
        """Writes or counts up one Event. A failure is logged: the status tells the same."""
        name = event_name(route, event)
        try:
            count = await self._write(route, event, name)
        except ApiError as error:
            logger.warning("Event %s on StickyRoute %s/%s: %s", event.reason, *route.key, error)
            return
        self._counts[name] = count
        self._counts.move_to_end(name)
        while len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)

    async def _write(self, route: RouteObject, event: Event, name: str) -> int:
        """The Event's count afterwards."""
        news = {"message": _cut(event.message), "type": event.type, "lastTimestamp": _stamp(self._now())}
        count = self._counts.get(name)
        if count is not None:
            try:
                return await self._count_up(route, name, news, count + event.times)
            except ApiError as error:
                # The API server drops Events after an hour: then it begins anew.
                if error.status != NOT_FOUND:
                    raise
        first = max(1, event.times)
        try:
            await self._create(route, event, name, {**news, "count": first})
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            # A former operator made it. The right to read Events is not asked for: an empty patch answers
            # with the object.
            found = await self._objects.patch(EVENTS, route.namespace, name, {})
            return await self._count_up(route, name, news, int(found.get("count") or 1) + event.times)
        return first

    async def _count_up(self, route: RouteObject, name: str, news: Mapping[str, Any], count: int) -> int:
        await self._objects.patch(EVENTS, route.namespace, name, {**news, "count": count})
        return count

    async def _create(self, route: RouteObject, event: Event, name: str, news: Mapping[str, Any]) -> None:
        manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": route.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": route.namespace,
                "name": route.name,
                "uid": route.uid,
            },
            "reason": str(event.reason),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
            "firstTimestamp": news["lastTimestamp"],
            **news,
        }
        await self._objects.create(EVENTS, manifest)


def event_name(route: RouteObject, event: Event) -> str:
    """The same for every Event of this reason on this very object."""
    digest = hashlib.sha256(f"{route.uid}/{event.reason}".encode()).hexdigest()[:16]
    return f"{route.name[:200].rstrip('.-')}.{digest}"


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 2]} …"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
