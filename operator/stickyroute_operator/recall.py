"""What the proxies serve when an operator begins: what the one before it knew, and no object tells.

An endpoint that left its slices while its pod lives is in no list of the cluster's, nor is when it left.
"""

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from stickyroute_api.control import MAX_SNAPSHOT_BYTES, SNAPSHOT_PATH, VERSION_PATH, Held
from stickyroute_api.snapshot import Endpoint, Version
from stickyroute_operator.complaint import words
from stickyroute_operator.joining import Sets
from stickyroute_operator.publish import FAILURES, ProxyAddress, PushError, refusal

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)
"""For one answer. Until all are there or given up, nothing is published, and proxies serve what they have."""
LIMIT = 15.0
"""Seconds for all of it, however many proxies stall one after the other."""


class _Served(BaseModel):
    """The part of a snapshot that is wanted; of keys and certificates nothing is read."""

    endpoints: dict[str, tuple[Endpoint, ...]]


async def recall(
    fleet: str,
    proxies: Mapping[str, ProxyAddress],
    tls: ssl.SSLContext,
    *,
    timeout: aiohttp.ClientTimeout = TIMEOUT,
) -> Sets:
    """The endpoint sets of the newest snapshot that a proxy of the fleet serves, by their names.

    Empty where none serves one, or none answers. Never raises for what proxies do.
    """
    try:
        async with asyncio.timeout(LIMIT):
            return await _newest(fleet, proxies, tls, timeout)
    except TimeoutError:
        logger.warning("the proxies do not say within %g s what they serve: drains may begin anew", LIMIT)
        return {}


async def _newest(
    fleet: str, proxies: Mapping[str, ProxyAddress], tls: ssl.SSLContext, timeout: aiohttp.ClientTimeout
) -> Sets:
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=tls)) as session:

        async def version(name: str) -> Version | None:
            try:
                held = await _read(session, proxies[name], VERSION_PATH, Held)
            except FAILURES as error:
                _tell(name, error)
                return None
            return held.held if held.fleet == fleet else None

        versions = zip(proxies, await asyncio.gather(*map(version, proxies)), strict=True)
        known = [(version, name) for name, version in versions if version is not None]
        for newest, name in sorted(known, reverse=True):
            try:
                served = await _read(session, proxies[name], SNAPSHOT_PATH, _Served)
            except FAILURES as error:
                _tell(name, error)
                continue
            logger.info("going on from snapshot %s, which proxy %s serves", newest, name)
            return served.endpoints
    return {}


async def _read(session: aiohttp.ClientSession, proxy: ProxyAddress, path: str, model: type[M]) -> M:
    async with session.get(proxy.url(path)) as answer:
        content = bytearray()
        async for part in answer.content.iter_any():
            content += part
            if len(content) > MAX_SNAPSHOT_BYTES:
                raise PushError("its answer is larger than any snapshot")
        if answer.status != 200:
            raise PushError(refusal(answer.status, bytes(content)).error)
    try:
        # What a newer version says beside is passed over: after a rollback drains go on.
        return model.model_validate_json(content, extra="ignore")
    except ValidationError:
        raise PushError("its answer is of no use: is it of another version?") from None


def _tell(name: str, error: Exception) -> None:
    logger.info("proxy %s does not say what it serves: %s", name, words(error))
