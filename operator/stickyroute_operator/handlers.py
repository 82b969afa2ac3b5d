"""What kopf watches for us: every event goes into the store, and nowhere else.

Handlers are `on.event` only: kopf then writes neither finalizers nor annotations. They neither wait nor
fail; the store knows what is news.

kopf lives in a thread and a loop of its own: when it ends it cancels every task of its loop, and a watch that
has died is best cured by starting it anew. Events reach the operator's loop as calls.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import kopf

from stickyroute_api.spec import GROUP
from stickyroute_operator import cluster, store
from stickyroute_operator.complaint import words

logger = logging.getLogger(__name__)

PREFIX = GROUP
"""Of every name that kopf could ever write on an object."""
RESOURCES = {
    store.ROUTES: cluster.ROUTES,
    store.SERVICES: cluster.SERVICES,
    store.SLICES: cluster.SLICES,
    store.PODS: cluster.PODS,
}
"""What is followed, by kind."""
PAUSE = 1.0
"""Seconds before watches that ended are started anew."""
STILLBORN = 5.0
"""Seconds within which watches that end have not lived."""
STOP_TIMEOUT = 3.0
"""Seconds that they have to end; the thread does not hold the process up longer."""

LISTED = "LISTED"
"""The type of an event that tells of no change: kopf began its watch anew, and may have lost deletions."""

Take = Callable[[str, str, Mapping[str, Any]], None]
"""Takes a kind, an event's type, and an object."""


class Watches:
    """The watches on all that is followed, kept alive. Calls are made in the loop that made this.

    `take` gets every event, `relisted` is called when a watch began anew.
    """

    def __init__(
        self, take: Take, namespaces: Collection[str] = (), relisted: Callable[[], None] = lambda: None
    ) -> None:
        self.heard: Counter[str] = Counter()
        """Events by kind."""
        self.starts = 0
        self.stillborn = 0
        """How often in a row they ended as soon as they began."""
        self._told = ""
        self._take = take
        self._relisted = relisted
        self._namespaces = namespaces
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Watches until cancelled."""
        try:
            while True:
                self.starts += 1
                self._stop, self._ended = threading.Event(), asyncio.Event()
                threading.Thread(
                    target=self._thread, args=(self._stop, self._ended), name="watches", daemon=True
                ).start()
                began = self._loop.time()
                await self._ended.wait()
                self.stillborn = self.stillborn + 1 if self._loop.time() < began + STILLBORN else 0
                await asyncio.sleep(PAUSE)
        finally:
            self._stop.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT):
                    await self._ended.wait()

    def restart(self) -> None:
        """Ends the present watches, so that new ones begin."""
        self._stop.set()

    def _thread(self, stop: threading.Event, ended: asyncio.Event) -> None:
        try:
            where: dict[str, Any] = (
                {"namespaces": sorted(self._namespaces)} if self._namespaces else {"clusterwide": True}
            )
            # kopf's own guess asks for the user's name, and a container's user has none.
            where["identity"] = PREFIX
            asyncio.run(
                kopf.operator(
                    registry=registry(self._post),
                    settings=settings(),
                    standalone=True,
                    stop_flag=stop,
                    **where,
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever ended it, it begins anew
            self._call(self._tell, words(error))
        finally:
            self._call(ended.set)

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            logger.warning("the watches ended: %s; starting them anew", why)

    def _post(self, kind: str, event: str, manifest: Mapping[str, Any]) -> None:
        self._call(self._hear, kind, event, manifest)

    def _hear(self, kind: str, event: str, manifest: Mapping[str, Any]) -> None:
        self.heard[kind] += 1
        self.stillborn, self._told = 0, ""
        self._take(kind, event, manifest)
        if event == LISTED:
            self._relisted()

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        # The operator's loop may be closed already when the thread outlives it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)


def registry(post: Take) -> kopf.OperatorRegistry:
    """The handlers; each passes on what it gets."""
    handlers = kopf.OperatorRegistry()
    for kind, (group, version, plural) in RESOURCES.items():
        kopf.on.event(group, version, plural, registry=handlers, id=f"follow-{plural}")(_follow(post, kind))
    kopf.on.login(registry=handlers, id="login")(_login)
    return handlers


def settings() -> kopf.OperatorSettings:
    """Explicit timeouts on every watch, and nothing written on kopf's own account."""
    chosen = kopf.OperatorSettings()
    chosen.watching.server_timeout = 300
    chosen.watching.client_timeout = 310
    chosen.watching.connect_timeout = 30
    # A watch that says nothing, not even a bookmark, is taken for dead.
    chosen.watching.inactivity_timeout = 70
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 10
    # Short and without growth: after an outage the watches are back at once.
    chosen.networking.error_backoffs = (0.5, 1, 1, 1, 2, 2, 2)
    chosen.queueing.error_delays = (1, 1, 2, 3, 5)
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    # What is watched is fixed: no rights on namespaces and definitions are asked for.
    chosen.scanning.disabled = True
    chosen.persistence.finalizer = f"{PREFIX}/finalizer"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=PREFIX)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=PREFIX)
    return chosen


def _follow(post: Take, kind: str) -> Callable[..., Any]:
    async def follow(event: Mapping[str, Any], **_: Any) -> None:
        post(kind, event["type"] or LISTED, event["object"])

    return follow


async def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    account = kopf.login_with_service_account(**arguments)
    if account is None or not host or os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(**arguments)
    # By address: the API must be reachable when the cluster's DNS is not.
    return dataclasses.replace(account, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")
