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

from stickyroute_api.control import SNAPSHOT_PATH, VERSION_PATH, Held
from stickyroute_api.snapshot import Endpoint
from stickyroute_operator.joining import Sets
from stickyroute_operator.publish import FAILURES, ProxyAddress, PushError, refusal

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

WITHIN = 5.0
"""Seconds for all of it, half of them for versions. Meanwhile nothing is published: proxies serve what they have."""
ASKED = 3
"""So many proxies are asked for their snapshot at once: one may have the newest, and be silent."""


class _Served(BaseModel):
    """The part of a snapshot that is wanted; of keys and certificates nothing is read."""

    endpoints: dict[str, tuple[Endpoint, ...]]


async def recall(
    fleet: str,
    proxies: Mapping[str, ProxyAddress],
    tls: ssl.SSLContext,
    *,
    within: float = WITHIN,
) -> Sets:
    """The endpoint sets of the newest snapshot that a proxy of the fleet serves, by their names.

    Empty where none serves one, or none answers `within` so many seconds. Never raises for what proxies do.
    """
    timeout = aiohttp.ClientTimeout(total=within / 2)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=tls)) as session:

        async def ask(name: str, path: str, model: type[M]) -> M | None:
            try:
                return await _read(session, proxies[name], path, model)
            except FAILURES as error:
                logger.info(
                    "proxy %s does not say what it serves: %s", name, str(error) or type(error).__name__
                )
                return None

        held = await asyncio.gather(*(ask(name, VERSION_PATH, Held) for name in proxies))
        known = sorted(
            (one.held, name)
            for name, one in zip(proxies, held, strict=True)
            if one is not None and one.held is not None and one.fleet == fleet
        )
        newest = known[: -ASKED - 1 : -1]
        answers = [asyncio.create_task(ask(name, SNAPSHOT_PATH, _Served)) for _, name in newest]
        try:
            for (version, name), answer in zip(newest, answers, strict=True):
                if (served := await answer) is not None:
                    logger.info("going on from snapshot %s, which proxy %s serves", version, name)
                    return served.endpoints
        finally:
            for answer in answers:
                answer.cancel()
    return {}


async def _read(session: aiohttp.ClientSession, proxy: ProxyAddress, path: str, model: type[M]) -> M:
    async with session.get(proxy.url(path)) as answer:
        content = await answer.read()
        if answer.status != 200:
            raise PushError(refusal(answer.status, content).error)
    try:
        return model.model_validate_json(content)
    except ValidationError:
        raise PushError("its answer is of no use: is it of another version?") from None
