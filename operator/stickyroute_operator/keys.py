"""The keys that seal session tokens, and the one that hashes: kept in one Secret, sent to proxies.

`rotation` replaces those that seal. The hashing key is never replaced by itself: another one places every
client of algorithm Hash anew.
"""

import base64
import binascii
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stickyroute_api.snapshot import TokenKeys
from stickyroute_api.spec import GROUP
from stickyroute_operator.pki import SecretError, SecretStore

logger = logging.getLogger(__name__)

FIELD = "keys.json"
HASHING = "hashing.key"
KEY_BYTES = 32
COMMAND = f"{GROUP}/rotate"
"""The annotation of the Secret that orders a rotation, whatever its value; taken off when it begins."""


class StoredKey(BaseModel):
    """One entry of the Secret's list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[int, Field(ge=0, le=255)]
    key: str = Field(repr=False)
    """32 bytes, base64."""
    created: datetime
    seals_from: datetime | None = None
    """When it began to seal, until the next one did; None: it is being handed out to the proxies."""


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
        stored = read(name, data)
    else:
        now = now.astimezone(UTC)
        stored = [StoredKey(id=1, key=fresh(random), created=now, seals_from=now)]
        made |= written(stored)
    hashing = hashing_key(data)
    if not hashing:
        hashing = fresh(random)
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


def tokens(stored: Sequence[StoredKey], hashing: str) -> TokenKeys:
    """What the proxies get: every key opens, one seals."""
    return TokenKeys(
        sealing=sealing(stored).id, keys={entry.id: entry.key for entry in stored}, hashing=hashing
    )


def sealing(stored: Sequence[StoredKey]) -> StoredKey:
    """The key that seals: the one that began to do so last."""
    return max(
        (entry for entry in stored if entry.seals_from), key=lambda entry: (entry.seals_from, entry.id)
    )


def written(stored: Sequence[StoredKey]) -> dict[str, bytes]:
    """The Secret's field that holds these keys."""
    return {FIELD: _STORED.dump_json(list(stored), exclude_none=True)}


def hashing_key(data: Mapping[str, bytes]) -> str:
    return data.get(HASHING, b"").decode("ascii", "replace").strip()


def fresh(random: Callable[[int], bytes]) -> str:
    """A new key, as it is stored."""
    return base64.b64encode(random(KEY_BYTES)).decode("ascii")


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def read(name: str, data: Mapping[str, bytes]) -> list[StoredKey]:
    """The sealing keys of a Secret's content. Raises SecretError naming the Secret and the remedy."""
    content = data.get(FIELD, b"")
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
        for field, time in (("created", entry.created), ("seals_from", entry.seals_from)):
            if time is not None and time.tzinfo is None:
                raise SecretError(
                    f"Secret {name}: {FIELD}: key {entry.id}: {field} has no time zone: {remedy}"
                )
        if not _is_key(entry.key):
            raise SecretError(
                f"Secret {name}: {FIELD}: key {entry.id} is not {KEY_BYTES} bytes in base64: {remedy}"
            )
    if not any(entry.seals_from for entry in stored):  # written before keys were rotated: the newest seals
        stored = [entry.model_copy(update={"seals_from": entry.created}) for entry in stored]
    return stored
