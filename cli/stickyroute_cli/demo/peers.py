"""The pods that the page draws: the supervisor's on a laptop, a headless Service's on a cluster."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=1.0)
FRESH = 0.5
"""Seconds for which a list of pods is not asked for again, however many pages poll."""


class Pods(Protocol):
    """Who knows the pods."""

    controllable: bool
    """Whether they can be stopped and started from the page."""

    async def all(self) -> list[dict[str, Any]]:
        """Each pod's `name`, `state` and `sessions` (null: not known), in a stable order."""

    async def act(self, name: str, action: str) -> tuple[int, dict[str, Any]]:
        """Stop or start one; an HTTP status and its JSON."""


class Supervised:
    """Pods that are processes under `stickyroute demo`."""

    controllable = True

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = url

    async def all(self) -> list[dict[str, Any]]:
        async with self._client.get(f"{self._url}/pods", timeout=TIMEOUT) as answer:
            pods: list[dict[str, Any]] = (await answer.json())["pods"]
        counts = await asyncio.gather(*(_ask(self._client, pod.pop("address", "")) for pod in pods))
        return [
            {**pod, "sessions": found and found["sessions"]} for pod, found in zip(pods, counts, strict=True)
        ]

    async def act(self, name: str, action: str) -> tuple[int, dict[str, Any]]:
        url = f"{self._url}/pods/{quote(name, safe='')}/{action}"
        async with self._client.post(url, timeout=TIMEOUT) as answer:
            return answer.status, await answer.json()


class Neighbours:
    """Pods behind a headless Service; kubectl stops them, not the page."""

    controllable = False

    def __init__(self, client: aiohttp.ClientSession, peers: str, own: Callable[[], dict[str, Any]]) -> None:
        self._client = client
        self._name, _, self._port = peers.rpartition(":")
        self._own = own

    async def all(self) -> list[dict[str, Any]]:
        found = [self._own()]
        if self._name:
            addresses: set[str] = set()
            with contextlib.suppress(OSError):
                infos = await asyncio.get_running_loop().getaddrinfo(
                    self._name, self._port, type=socket.SOCK_STREAM
                )
                addresses = {_join(str(info[4][0]), int(info[4][1])) for info in infos}
            answers = await asyncio.gather(*(_ask(self._client, address) for address in sorted(addresses)))
            found += [answer for answer in answers if answer]
        by_name = {pod["pod"]: pod for pod in reversed(found)}
        return [
            {"name": name, "state": "Running", "sessions": pod["sessions"]}
            for name, pod in sorted(by_name.items())
        ]

    async def act(self, name: str, action: str) -> tuple[int, dict[str, Any]]:
        return 409, {"error": f"this page cannot {action} {name}: use kubectl"}


class Recent:
    """Answers of `pods.all()`, shared between pages for a moment."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._until = 0.0
        self._last: list[dict[str, Any]] = []

    async def all(self, now: float) -> list[dict[str, Any]]:
        """The list, at most `FRESH` seconds old; the last good one when nobody answers."""
        if now >= self._until:
            self._until = now + FRESH
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                self._last = await self._pods.all()
        return self._last

    def forget(self) -> None:
        """Something was just changed: ask anew."""
        self._until = 0.0


async def _ask(client: aiohttp.ClientSession, address: str) -> dict[str, Any] | None:
    if not address:
        return None
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with client.get(f"http://{address}/healthz", timeout=TIMEOUT) as answer:
            found: dict[str, Any] = await answer.json()
            return found
    return None


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
