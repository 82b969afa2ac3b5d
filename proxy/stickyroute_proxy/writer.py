"""Lines to a file descriptor, by a thread of its own: who gives one never waits for it."""

import os
from collections import deque
from select import PIPE_BUF, select
from threading import Event, Thread
from typing import Final

from stickyroute_proxy.wire.counters import Counters

MAX_BYTES: Final = 8 << 20
"""What may wait to be written; lines beyond are dropped, and counted."""
PAUSE: Final = 0.1
"""Seconds between two looks at what waits: one wake-up for many lines."""


class Writer:
    """Writes what it is given in order, in whole lines.

    Lines go in writes of at most PIPE_BUF, which a pipe takes as one even where it has other writers.
    """

    def __init__(self, handle: int, counters: Counters) -> None:
        """`handle` is duplicated."""
        self._handle = os.dup(handle)
        self._counters = counters
        self._lines: deque[bytes] = deque()
        # Bytes, each counted by one thread alone.
        self._given = self._written = 0
        self._ending = Event()
        self._thread = Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have a line written, its end included."""
        if self._given - self._written > MAX_BYTES:
            self._counters.access_log_dropped += 1
            return
        self._given += len(line)
        self._lines.append(line)

    def end(self) -> None:
        """Write what is left, then nothing more."""
        self._ending.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end, at most so long; whether all has been written."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ending.wait(PAUSE):
            self._write_all()
        self._write_all()
        os.close(self._handle)

    def _write_all(self) -> None:
        lines = self._lines
        while lines:
            batch = [lines.popleft()]
            size = len(batch[0])
            while lines and size + len(lines[0]) <= PIPE_BUF:
                size += len(lines[0])
                batch.append(lines.popleft())
            try:
                self._write(b"".join(batch))
            except OSError:  # its reader has gone, or the disk is full
                self._counters.access_log_failed += len(batch)
            self._written += size

    def _write(self, data: bytes) -> None:
        """Wait as long as it takes. Raises OSError."""
        while data:
            try:
                data = data[os.write(self._handle, data) :]
            except BlockingIOError:  # whoever else has the descriptor made it so
                select((), (self._handle,), (), PAUSE)
