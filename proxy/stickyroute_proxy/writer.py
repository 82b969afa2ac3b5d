"""Lines to a file descriptor, by a thread of its own: who gives one never waits for it."""

import os
from select import PIPE_BUF, select
from threading import Event, Thread
from typing import Final

from stickyroute_proxy.wire.counters import Counters

MAX_BYTES: Final = 8 << 20
"""What may wait to be written; lines beyond are dropped, and counted."""
PAUSE: Final = 0.1
"""Seconds between two looks at what waits: one wake-up for many lines."""
_BATCH: Final = 256
"""Lines that are taken at once: who gives some meanwhile waits for so much copying."""


class Writer:
    """Writes what it is given in order, in whole lines.

    Lines go in writes of at most PIPE_BUF, which a pipe takes as one even where it has other writers.
    """

    def __init__(self, handle: int, counters: Counters) -> None:
        """`handle` is duplicated."""
        self._handle = os.dup(handle)
        self._counters = counters
        self._lines: list[bytes] = []
        # Bytes, each set by one thread alone.
        self._given = 0
        self._allowed = MAX_BYTES  # to be given, ever: so much more than has been written
        self._ending = Event()
        self._thread = Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Have a line written: ASCII, of at most PIPE_BUF with its end, which is included."""
        if self._given > self._allowed:
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
            batch = lines[:_BATCH]
            del lines[: len(batch)]  # the other thread may have appended more meanwhile
            data = b"".join(batch)
            end = 0
            while end < len(data):
                start, end = end, data.rfind(b"\n", end, end + PIPE_BUF) + 1 or len(data)
                try:
                    self._write(data[start:end])
                except OSError:  # its reader has gone, or the disk is full
                    self._counters.access_log_failed += data.count(b"\n", start, end)
                self._allowed += end - start

    def _write(self, data: bytes) -> None:
        """Wait as long as it takes. Raises OSError."""
        while data:
            try:
                data = data[os.write(self._handle, data) :]
            except BlockingIOError:  # whoever else has the descriptor made it so
                select((), (self._handle,), (), PAUSE)
