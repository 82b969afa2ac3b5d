"""The channel between a supervisor and one of its workers: frames over a Unix socket pair.

The supervisor asks, the worker answers, in the order asked. A frame is the length of its content (4 bytes,
big-endian), a verb or an outcome (1 byte), and the content.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from enum import IntEnum
from typing import Final, Self


class Verb(IntEnum):
    """What a supervisor asks of a worker."""

    PING = 1
    """Answer."""
    WHOLE = 2
    """Prepare this `Snapshot` (JSON)."""
    DELTA = 3
    """Prepare the snapshot that this `Delta` (JSON) makes of the one in use."""
    COMMIT = 4
    """Bring into use what was prepared last."""
    LISTEN = 5
    """Accept connections."""
    SAMPLES = 6
    """Answer with the metrics' samples (JSON)."""
    REPORT = 7
    """Answer with the `AffinityReport` (JSON); empty when there is no snapshot."""
    DRAIN = 8
    """Begin the graceful end."""
    LEASES = 9
    """Go by these `Leases` (JSON) until the next."""
    DRAINS = 10
    """Answer with what is left of draining pods: `Drain`s by `namespace/pod` (JSON)."""


class Outcome(IntEnum):
    DONE = 0
    REFUSED = 1
    """The content says why."""


class GoneError(Exception):
    """The other end has gone."""


_HEADER: Final = struct.Struct("!IB")


def frame(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(len(content), kind) + content


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Kind and content of each frame, until the other end has gone."""
    try:
        while True:
            length, kind = _HEADER.unpack(await reader.readexactly(_HEADER.size))
            yield kind, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return


class Channel:
    """The supervisor's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._unanswered: deque[asyncio.Future[bytes]] = deque()
        self._gone = False
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="channel")

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def ask(self, verb: Verb, content: bytes = b"") -> bytes:
        """The worker's answer. Raises ValueError when it refuses, `GoneError` when it ends before.

        Who stops waiting may ask again: a late answer is not taken for the next one's.
        """
        if self._gone:
            raise GoneError
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._unanswered.append(answer)
        self._writer.write(frame(verb, content))
        return await answer

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()

    async def _read(self) -> None:
        try:
            async for kind, content in frames(self._reader):
                answer = self._unanswered.popleft()
                if answer.done():
                    continue
                if kind == Outcome.DONE:
                    answer.set_result(content)
                else:
                    answer.set_exception(ValueError(content.decode()))
        finally:
            self._gone = True
            for answer in self._unanswered:
                if not answer.done():
                    answer.set_exception(GoneError())
