"""Pushes the wanted snapshot to every proxy of the fleet: one task each, so that none waits for another."""

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import aiohttp
from prometheus_client import Histogram
from pydantic import BaseModel, ValidationError
from yarl import URL

from stickyroute_api.control import SNAPSHOT_PATH, VERSION_PATH, Held, Refusal
from stickyroute_api.snapshot import Delta, Snapshot, Version
from stickyroute_operator.complaint import words

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

HELD = 8
"""How many recent snapshots are held as bases of deltas."""
PROBE = 1.0
"""Seconds after which an idle proxy is asked what it holds: one that restarted in its pod is told again."""
TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=2)
BACKOFF = (0.2, 5.0)
"""The first and the longest pause after a failure, in seconds; half of each is random."""


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """Where a proxy's control port is."""

    host: str
    """An IP address."""
    port: int
    ready: bool = True
    """Whether it counts for Programmed: its pod is Ready."""

    def url(self, path: str) -> URL:
        return URL.build(scheme="https", host=self.host, port=self.port, path=path)


@dataclass(slots=True)
class ProxyState:
    """What is known of one proxy."""

    name: str
    address: ProxyAddress
    acked: Version | None = None
    """The snapshot that it said last that it serves."""
    error: str | None = None
    """Why it does not take the wanted one; None: it does, or was not asked yet."""
    refused: Version | None = None
    """The last snapshot that it called invalid."""
    version: str = ""
    """The product's version there."""

    @property
    def ready(self) -> bool:
        return self.address.ready


class PushError(Exception):
    """A proxy gave no usable answer."""


FAILURES = (aiohttp.ClientError, TimeoutError, OSError, PushError)
"""What goes wrong between two processes; all else is a defect."""


class Publisher:
    """The operator's end of the push channel.

    `tls` gives the context for new connections, so that renewed certificates are used; `changed` is called
    whenever a proxy's state changed; `on_higher_epoch` with the epoch of a proxy that holds a newer snapshot,
    or another one under the wanted number: the caller takes a higher epoch, or gives up its leadership.
    """

    def __init__(
        self,
        fleet: str,
        tls: Callable[[], ssl.SSLContext],
        changed: Callable[[], None],
        on_higher_epoch: Callable[[int], None] = lambda _epoch: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        probe: float = PROBE,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        self.proxies: dict[str, ProxyState] = {}
        self.latency = Histogram(
            "stickyroute_push_seconds",
            "From a snapshot's publication to a proxy's acknowledgement.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=None,
        )
        self.fleet = fleet
        self.tls = tls
        self.changed = changed
        self.on_higher_epoch = on_higher_epoch
        self.clock = clock
        self.random = random or Random()  # noqa: S311 - jitter
        self.probe = probe
        self.timeout = timeout
        self.wanted: Snapshot | None = None
        self.published_at = 0.0
        self._held: OrderedDict[Version, Snapshot] = OrderedDict()
        self._bodies: dict[Version | None, bytes] = {}
        self._channels: dict[str, _Channel] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def target(self, proxies: Mapping[str, ProxyAddress]) -> None:
        """The fleet's proxies by name: all that exist, not-ready and terminating ones too."""
        for name in self._channels.keys() - proxies.keys():
            self._end(name)
        for name, address in proxies.items():
            channel = self._channels.get(name)
            if channel is None or channel.place != (address.host, address.port):
                if channel is not None:
                    self._end(name)
                self.proxies[name] = ProxyState(name, address)
                self._channels[name] = _Channel(self, self.proxies[name])
            else:
                channel.state.address = address

    def publish(self, snapshot: Snapshot) -> None:
        """Make it the wanted one; at once for all proxies. Newer than any before, or `ValueError`."""
        if self.wanted is not None:
            if snapshot.version <= self.wanted.version:
                raise ValueError(f"snapshot {snapshot.version} does not follow {self.wanted.version}")
            # share what did not change: it is held once, and comparing it again costs nothing
            snapshot = Delta.between(self.wanted, snapshot).apply(self.wanted)
        self.wanted = snapshot
        self.published_at = self.clock()
        self._held[snapshot.version] = snapshot
        while len(self._held) > HELD:
            self._held.popitem(last=False)
        self._bodies.clear()
        for channel in self._channels.values():
            channel.wake.set()

    async def close(self) -> None:
        """End all channels."""
        for name in list(self._channels):
            self._end(name)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def body(self, wanted: Snapshot, base: Version | None) -> tuple[bytes, bool]:
        """What to send to a proxy that holds `base`, and whether it is a delta. Encoded once for all."""
        if base not in self._held:
            base = None
        if (content := self._bodies.get(base)) is None:
            push: BaseModel = wanted if base is None else Delta.between(self._held[base], wanted)
            content = push.model_dump_json().encode()
            self._bodies[base] = content
        return content, base is not None

    def _end(self, name: str) -> None:
        del self.proxies[name]
        task = self._channels.pop(name).task
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class _Channel:
    """One proxy's task and its kept-alive connection."""

    def __init__(self, publisher: Publisher, state: ProxyState) -> None:
        self.wake = asyncio.Event()
        self.state = state
        self.place = (state.address.host, state.address.port)
        self._publisher = publisher
        self._known = False
        """Whether the proxy was asked what it holds, and has not been lost since."""
        self._delivered: Version | None = None
        """What it took from this channel last. Another origin's content may differ under the same number."""
        self._holds: Version | None = None
        """`_delivered` while the proxy has it: what it need not be sent, and the base of a delta."""
        self._refused: Version | None = None
        """The version that it called invalid: not sent again before the next."""
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"push {state.name}")

    async def _run(self) -> None:
        first, longest = BACKOFF
        pause = first
        async with aiohttp.ClientSession(
            timeout=self._publisher.timeout, connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=60)
        ) as session:
            while True:
                self.wake.clear()
                try:
                    await self._step(session)
                except Exception as error:  # else the proxy would be left behind for good
                    if not isinstance(error, FAILURES):
                        logger.exception("push to proxy %s failed", self.state.name)
                    self._known = False
                    self._set(self.state.acked, words(error))
                    jitter = 0.5 + self._publisher.random.random() / 2
                    await asyncio.sleep(first * jitter)
                    await self._woken((pause - first) * jitter)
                    pause = min(2 * pause, longest)
                else:
                    pause = first
                    if not await self._woken(self._publisher.probe):
                        self._known = False

    async def _woken(self, seconds: float) -> bool:
        """Wait for a newly published snapshot, at the longest so many seconds; False: there is none."""
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return False
        return True

    async def _step(self, session: aiohttp.ClientSession) -> None:
        """Bring the proxy to the wanted snapshot, as far as it goes. Raises on any failure worth a retry."""
        if not self._known:
            await self._ask(session)
        while (wanted := self._publisher.wanted) is not None:
            if wanted.version in (self._holds, self._refused):
                return
            await self._push(session, wanted)

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        status, content = await self._request(session, "GET", VERSION_PATH)
        if status != 200:
            raise PushError(refusal(status, content).error)
        answer = _parse(Held, content)
        if answer.fleet != self._publisher.fleet:
            raise PushError(f"it serves fleet {answer.fleet!r}, not {self._publisher.fleet!r}")
        if self.state.version != answer.version:
            self.state.version = answer.version
            self._refused = None  # another program may well take it
        held, wanted = answer.held, self._publisher.wanted
        if held is not None and wanted is not None and held.epoch > wanted.epoch:
            self._meet_higher(held)
        self._known = True
        self._holds = held if held == self._delivered else None
        is_older = held is not None and wanted is not None and held < wanted.version
        self._set(held if is_older else self._holds, self.state.error if self._refused is not None else None)

    async def _push(self, session: aiohttp.ClientSession, wanted: Snapshot) -> None:
        published = self._publisher.published_at
        content, is_delta = self._publisher.body(wanted, self._holds)
        status, answer = await self._request(session, "PATCH" if is_delta else "PUT", SNAPSHOT_PATH, content)
        if status == 200:
            self._publisher.latency.observe(max(0.0, self._publisher.clock() - published))
            self._delivered = self._holds = wanted.version
            self._set(wanted.version, None)
            return
        refused = refusal(status, answer)
        if status == 412 and is_delta:
            self._holds = None  # the whole one next, in the same step
        elif status == 409 and refused.held is not None:
            self._meet_higher(refused.held)
        elif status == 422:
            logger.warning("proxy %s refused snapshot %s: %s", self.state.name, wanted.version, refused.error)
            self._refused = self.state.refused = wanted.version
            self._set(self.state.acked, refused.error)
        else:
            raise PushError(refused.error)

    def _meet_higher(self, held: Version) -> None:
        self._holds = None
        self._set(None, self.state.error)
        self._publisher.on_higher_epoch(held.epoch)
        raise PushError(f"it holds snapshot {held}, pushed by another operator: a higher epoch is needed")

    async def _request(
        self, session: aiohttp.ClientSession, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        async with session.request(
            method,
            self.state.address.url(path),
            data=body,
            ssl=self._publisher.tls(),
            headers={"Content-Type": "application/json"} if body is not None else None,
        ) as answer:
            return answer.status, await answer.read()

    def _set(self, acked: Version | None, error: str | None) -> None:
        if (acked, error) != (self.state.acked, self.state.error):
            self.state.acked, self.state.error = acked, error
            self._publisher.changed()


def refusal(status: int, content: bytes) -> Refusal:
    """What a proxy's answer says that is no success."""
    try:
        return Refusal.model_validate_json(content)
    except ValidationError:
        return Refusal(error=f"answered {status} without saying why")


def _parse(model: type[M], content: bytes) -> M:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        raise PushError(f"its answer is no {model.__name__}: is another program at that address?") from None
