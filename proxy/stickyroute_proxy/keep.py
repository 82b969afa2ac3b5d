"""The last good snapshot on disk: what a proxy starts from when the operator is away.

It holds token keys: the file is readable by its owner only, and belongs on a memory-backed volume.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from stickyroute_api.snapshot import Snapshot
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.receive import explain

logger = logging.getLogger(__name__)


class Keep:
    """Writes snapshots to one file, the latest first, never holding the loop."""

    def __init__(self, path: Path | None, encoder: Encoder) -> None:
        """`path` None: nothing is kept."""
        self._path = path
        self._encoder = encoder
        self._wanted: Snapshot | None = None
        self._task: asyncio.Task[None] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Write it soon; one that waits behind a write in progress is replaced by a newer one."""
        if self._path is None:
            return
        self._wanted = snapshot
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._write(self._path), name="keep")

    async def close(self) -> None:
        """Wait until what was given to `save` is written."""
        if self._task is not None:
            await self._task

    async def _write(self, path: Path) -> None:
        while (snapshot := self._wanted) is not None:
            self._wanted = None
            try:
                content = await self._encoder.encode(snapshot)
                await asyncio.to_thread(write, path, content)
            except OSError as error:
                logger.error(  # noqa: TRY400 - the error says all
                    "snapshot %s cannot be kept in %s (%s): a restart while the operator is away will not be "
                    "ready; check the volume",
                    snapshot.version,
                    path,
                    error.strerror or error,
                )


def write(path: Path, content: bytes) -> None:
    """Replace the file in one step: a reader, or a crash at any moment, meets the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load(path: Path, fleet: str) -> Snapshot | None:
    """The kept snapshot, or None with a log line that says why there is none of use."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        logger.info("no snapshot is kept in %s: waiting for the operator", path)
        return None
    except OSError as error:
        logger.warning("kept snapshot %s cannot be read (%s): waiting for the operator", path, error.strerror)
        return None
    try:
        snapshot = Snapshot.model_validate_json(content)
    except ValidationError as error:
        logger.warning("kept snapshot %s is of no use (%s): waiting for the operator", path, explain(error))
        return None
    if snapshot.fleet != fleet:
        logger.warning(
            "kept snapshot %s is of fleet %r, this proxy serves %r: waiting for the operator",
            path,
            snapshot.fleet,
            fleet,
        )
        return None
    return snapshot
