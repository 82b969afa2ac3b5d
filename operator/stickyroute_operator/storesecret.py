"""What is secret of the fleet's store: read from a Secret that a person made, into the settings."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from stickyroute_operator.cluster import ApiError
from stickyroute_operator.pki import SecretStore

logger = logging.getLogger(__name__)

POLL = 30.0
"""Seconds between two looks: a Secret of that name alone may be read, and not watched."""
RETRY = 5.0


@dataclass(frozen=True)
class StoreSecret:
    """Where it is, in the release's namespace."""

    name: str
    password_key: str = "password"  # noqa: S105 - a field's name
    """The field that holds the password; what it lacks is empty."""
    ca_key: str = ""
    """The field that holds authorities (PEM); empty: none does."""

    def read(self, data: dict[str, bytes]) -> dict[str, str]:
        """The fields of `settings.Store` that the Secret says. Raises ValueError naming what it lacks."""
        found = {}
        for field, key in (("password", self.password_key), ("ca", self.ca_key)):
            if not key:
                continue
            if key not in data:
                raise ValueError(
                    f"Secret {self.name} has no field {key}: add it, or name another in the chart's store"
                    " values"
                )
            try:
                found[field] = data[key].decode().strip()
            except UnicodeDecodeError:
                raise ValueError(f"Secret {self.name}: {key} is not UTF-8 text") from None
        return found

    async def follow(self, secrets: SecretStore, take: Callable[[dict[str, str]], None]) -> None:
        """Give what it says to `take`, again and again; while it is of no use, what was said last holds."""
        told = ""
        while True:
            pause = POLL
            try:
                take(self.read(await secrets.read(self.name)))
                told = ""
            except (ApiError, ValueError) as error:
                pause = RETRY
                if str(error) != told:
                    told = str(error)
                    logger.error("store: %s", error)  # noqa: TRY400 - what a person mends, without a traceback
            await asyncio.sleep(pause)
