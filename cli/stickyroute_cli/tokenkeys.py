"""The keys that seal tokens: new in each run, or kept in a folder so that sessions outlive a restart."""

import base64
import os
import secrets
from pathlib import Path

from pydantic import ValidationError

from stickyroute_api.snapshot import TokenKeys
from stickyroute_cli.terminal import InputError

FILE = "token-keys.json"
KEY_BYTES = 32


def fresh() -> TokenKeys:
    return TokenKeys(sealing=1, keys={1: _fresh()}, hashing=_fresh())


def _fresh() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def kept(folder: Path) -> TokenKeys:
    """The folder's keys, made at the first call. InputError names the file and the remedy, never a key."""
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write(path, fresh())
        keys = TokenKeys.model_validate_json(path.read_bytes())
        if keys.sealing not in keys.keys or any(
            len(base64.b64decode(key, validate=True)) != KEY_BYTES for key in keys.keys.values()
        ):
            raise ValueError
        if not keys.hashing:  # written by an older version
            keys = keys.model_copy(update={"hashing": _fresh()})
            _write(path, keys)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; name a folder that can be written with --state DIR"
        ) from None
    except (ValidationError, ValueError):
        raise InputError(
            f"{path} does not hold token keys of this version; delete it, and all sessions begin anew"
        ) from None
    return keys


def _write(path: Path, keys: TokenKeys) -> None:
    """Whole or not at all, readable by its owner only."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(keys.model_dump_json())
    draft.replace(path)
