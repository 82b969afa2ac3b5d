"""The keys that seal session tokens: made once, kept in one Secret, sent to the proxies in the snapshot."""

import base64
import binascii
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stickyroute_api.snapshot import TokenKeys
from stickyroute_operator.pki import SecretError, SecretStore

logger = logging.getLogger(__name__)

FIELD = "keys.json"
KEY_BYTES = 32


class StoredKey(BaseModel):
    """One entry of the Secret's list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[int, Field(ge=0, le=255)]
    key: str = Field(repr=False)
    """32 bytes, base64."""
    created: datetime


_STORED = TypeAdapter(list[StoredKey])


async def ensure(
    secrets: SecretStore, name: str, now: datetime, random: Callable[[int], bytes] = os.urandom
) -> TokenKeys:
    """The keys of the Secret; an empty one is given its first key.

    Raises SecretError when it holds anything else: to replace keys ends every session, so only a person
    does it.
    """
    data = await secrets.read(name)
    if not any(value.strip() for value in data.values()):
        first = StoredKey(
            id=1, key=base64.b64encode(random(KEY_BYTES)).decode("ascii"), created=now.astimezone(UTC)
        )
        await secrets.write(name, {FIELD: _STORED.dump_json([first])})
        logger.info("made the first token key in Secret %s", name)
        return tokens([first])
    return tokens(_parse(name, data.get(FIELD, b"")))


def tokens(stored: list[StoredKey]) -> TokenKeys:
    """What the proxies get: every key opens, the newest seals."""
    newest = max(stored, key=lambda entry: (entry.created, entry.id))
    return TokenKeys(sealing=newest.id, keys={entry.id: entry.key for entry in stored})


def _parse(name: str, content: bytes) -> list[StoredKey]:
    remedy = (
        "restore it from a backup, or empty the Secret: the operator then makes a new key, "
        "and every session starts anew"
    )
    if not content.strip():
        raise SecretError(f"Secret {name}: {FIELD} is missing beside other data: {remedy}")
    try:
        stored = _STORED.validate_python(json.loads(content), strict=False)
    except (ValueError, ValidationError):
        raise SecretError(
            f"Secret {name}: {FIELD} is no list of {{id, key, created}} objects with ids 0 to 255: {remedy}"
        ) from None
    if not stored:
        raise SecretError(f"Secret {name}: {FIELD} is an empty list: {remedy}")
    if len({entry.id for entry in stored}) != len(stored):
        raise SecretError(f"Secret {name}: {FIELD} has two keys with one id: {remedy}")
    for entry in stored:
        if entry.created.tzinfo is None:
            raise SecretError(f"Secret {name}: {FIELD}: key {entry.id}: created has no time zone: {remedy}")
        try:
            size = len(base64.b64decode(entry.key, validate=True))
        except (binascii.Error, ValueError):
            size = -1
        if size != KEY_BYTES:
            raise SecretError(
                f"Secret {name}: {FIELD}: key {entry.id} is not {KEY_BYTES} bytes in base64: {remedy}"
            )
    return stored
