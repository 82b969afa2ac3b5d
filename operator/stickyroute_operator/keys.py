"""The keys that seal session tokens, and the one that hashes: made once, kept in one Secret, sent to proxies.

The hashing key is never replaced by itself: another one places every client of algorithm Hash anew.
"""

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
HASHING = "hashing.key"
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
    """The keys of the Secret; what it lacks is made: the first key of an empty one, the key that hashes.

    Raises SecretError when it holds anything else: to replace keys ends every session, so only a person
    does it.
    """
    data = await secrets.read(name)
    made: dict[str, bytes] = {}
    if any(value.strip() for value in data.values()):
        stored = _parse(name, data.get(FIELD, b""))
    else:
        stored = [StoredKey(id=1, key=_fresh(random), created=now.astimezone(UTC))]
        made[FIELD] = _STORED.dump_json(stored)
    hashing = data.get(HASHING, b"").decode("ascii", "replace").strip()
    if not hashing:
        hashing = _fresh(random)
        made[HASHING] = hashing.encode()
    elif not _is_key(hashing):
        raise SecretError(
            f"Secret {name}: {HASHING} is not {KEY_BYTES} bytes in base64: restore it from a backup,"
            " or remove it: the operator then makes a new one, and algorithm Hash places every client anew"
        )
    if made:
        await secrets.write(name, made)
        logger.info("made %s in Secret %s", " and ".join(made), name)
    return tokens(stored, hashing)


def tokens(stored: list[StoredKey], hashing: str) -> TokenKeys:
    """What the proxies get: every key opens, the newest seals."""
    newest = max(stored, key=lambda entry: (entry.created, entry.id))
    return TokenKeys(sealing=newest.id, keys={entry.id: entry.key for entry in stored}, hashing=hashing)


def _fresh(random: Callable[[int], bytes]) -> str:
    return base64.b64encode(random(KEY_BYTES)).decode("ascii")


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False


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
        if not _is_key(entry.key):
            raise SecretError(
                f"Secret {name}: {FIELD}: key {entry.id} is not {KEY_BYTES} bytes in base64: {remedy}"
            )
    return stored
