"""The receiving end of the push channel: which snapshots and leases are taken, which are refused and why.

Knows nothing of HTTP: `control` carries bodies in and refusals out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stickyroute_api.leases import Leases
from stickyroute_api.snapshot import FORMAT, Delta, Snapshot, Version
from stickyroute_proxy.decode import decoded
from stickyroute_proxy.slices import in_slices

logger = logging.getLogger(__name__)

MAX_PROBLEMS = 8
"""How many of a body's problems a refusal tells."""


class RefusedError(Exception):
    """A push that was not applied; the text says why and never quotes the body."""


class StaleError(RefusedError):
    """The proxy holds the same number with other content, or a newer one (409)."""


class WrongBaseError(RefusedError):
    """The delta does not start from what the proxy holds (412)."""


class InvalidError(RefusedError):
    """The body is no snapshot of this fleet and format, or no leases, or cannot be served (422)."""


class UnavailableError(RefusedError):
    """Nobody is there to serve it now; a later attempt may find someone (503)."""


class Keeper(Protocol):
    """Where good snapshots go so that a restart finds them."""

    def save(self, snapshot: Snapshot) -> None: ...


async def _nobody(_leases: Leases) -> None:
    """Goes by no leases."""


@dataclass(slots=True)
class Receiver:
    """Holds the last good snapshot and brings each new one into use, or leaves everything as it is.

    `use` compiles a snapshot and swaps it in; it is told the delta on the one in use, if there is one. It
    raises ValueError when the snapshot cannot be served. `obey` is told of leases.
    """

    fleet: str
    use: Callable[[Snapshot, Delta | None], Awaitable[None]]
    keeper: Keeper
    obey: Callable[[Leases], Awaitable[None]] = _nobody
    snapshot: Snapshot | None = None
    leases: Leases | None = None
    """The last ones; they hold until the next."""
    pushes: int = 0
    """Snapshots taken from the operator since start, re-pushes included."""
    refusals: int = 0
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    _lend_one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def version(self) -> Version | None:
        return self.snapshot.version if self.snapshot else None

    async def put(self, body: bytes) -> Version:
        """Take a whole snapshot. Raises `RefusedError`."""
        return await self._take(self._put, body)

    async def patch(self, body: bytes) -> Version:
        """Take a delta. Raises `RefusedError`."""
        return await self._take(self._patch, body)

    async def lend(self, body: bytes) -> Leases:
        """Take leases. Raises `RefusedError`."""
        try:
            new = Leases.model_validate_json(body)
        except ValidationError as error:
            raise InvalidError(explain(error)) from None
        if new.fleet != self.fleet:
            raise InvalidError(f"fleet: the leases are for fleet {new.fleet!r}, not for {self.fleet!r}")
        async with self._lend_one_at_a_time:
            held = self.leases
            if held is not None and (new.epoch, new.sequence) < (held.epoch, held.sequence):
                raise StaleError(
                    f"leases {new.epoch}.{new.sequence} are older than {held.epoch}.{held.sequence}"
                )
            if self.snapshot is not None and new.epoch < self.snapshot.epoch:
                raise StaleError(f"leases of epoch {new.epoch}, and the snapshot is of {self.snapshot.epoch}")
            self.leases = new
            await self.obey(new)
        return new

    async def restore(self, snapshot: Snapshot) -> None:
        """Start from a kept snapshot. Raises ValueError when it cannot be served."""
        async with self._one_at_a_time:
            await self.use(snapshot, None)
            self.snapshot = snapshot

    async def _take(self, take: Callable[[bytes], Awaitable[Version]], body: bytes) -> Version:
        async with self._one_at_a_time:
            try:
                return await take(body)
            except RefusedError as refused:
                self._count(refused)
                raise

    async def _put(self, body: bytes) -> Version:
        held = self.snapshot
        try:
            new = await in_slices(decoded(body, held))
        except ValidationError as error:
            raise InvalidError(explain(error)) from None
        self._check_fleet(new.fleet)
        if held and not self._is_newer(new.version, same=lambda: new == held):
            return self._taken(held.version)
        if held is None:
            return await self._bring(new, None)
        delta = Delta.between(held, new)
        return await self._bring(delta.apply(held), delta)

    async def _patch(self, body: bytes) -> Version:
        try:
            delta = Delta.model_validate_json(body)
        except ValidationError as error:
            raise InvalidError(explain(error)) from None
        self._check_fleet(delta.fleet)
        held, version = self.snapshot, Version(delta.epoch, delta.revision)
        if held is None:
            raise WrongBaseError(
                f"this proxy holds no snapshot, so no delta on {delta.base} fits: send the whole one"
            )
        if not self._is_newer(version, same=lambda: _holds(held, delta)):
            return self._taken(held.version)
        if delta.base != held.version:
            raise WrongBaseError(
                f"this proxy holds {held.version}, not {delta.base}: send the whole snapshot"
            )
        return await self._bring(delta.apply(held), delta)

    def _check_fleet(self, fleet: str) -> None:
        if fleet != self.fleet:
            raise InvalidError(
                f"fleet: the snapshot is for fleet {fleet!r}, this proxy serves {self.fleet!r}: "
                "check the operator's and the proxy's className"
            )

    def _is_newer(self, version: Version, same: Callable[[], bool]) -> bool:
        held = self.version
        if held is None or version > held:
            return True
        if version < held:
            raise StaleError(f"{version} is older than {held}, which this proxy holds")
        if not same():
            raise StaleError(f"this proxy holds other content under the same number {held}: raise the epoch")
        return False

    async def _bring(self, new: Snapshot, delta: Delta | None) -> Version:
        try:
            await self.use(new, delta)
        except ValueError as error:
            raise InvalidError(str(error)) from error
        self.snapshot = new
        self.keeper.save(new)
        logger.info("snapshot %s is in use: %d routes", new.version, len(new.routes))
        return self._taken(new.version)

    def _taken(self, version: Version) -> Version:
        self.pushes += 1
        return version

    def _count(self, refused: RefusedError) -> None:
        self.refusals += 1
        logger.warning("push refused (%s): %s", type(refused).__name__, refused)


def explain(error: ValidationError) -> str:
    """What is wrong and where, without a value of the body: it holds token keys."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    for problem in problems:
        if problem["loc"] == ("format",):
            return f"format: this proxy speaks format {FORMAT} only: run operator and proxies of one version"
    told = [_tell(problem) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        told.append(f"and {len(problems) - MAX_PROBLEMS} more")
    return "; ".join(told)


def _tell(problem: ErrorDetails) -> str:
    path = problem["loc"]
    if path[:1] == ("keys",):  # what stands below it may be a key, even in the place of a name
        known = ".".join(part for part in path[:2] if part in ("keys", "sealing"))
        return f"{known}: malformed"
    return f"{'.'.join(str(part) for part in path) or 'body'}: {problem['msg']}"


def _holds(held: Snapshot, delta: Delta) -> bool:
    """Whether all that the delta says is so already: then it was applied before."""
    return (
        (delta.settings is None or delta.settings == held.settings)
        and (delta.keys is None or delta.keys == held.keys)
        and all(held.routes.get(key) == route for key, route in delta.routes.items())
        and all(held.endpoints.get(key) == endpoints for key, endpoints in delta.endpoints.items())
        and all(held.certificates.get(key) == given for key, given in delta.certificates.items())
        and all(held.backend_tls.get(key) == given for key, given in delta.backend_tls.items())
    )
