"""Whether this process keeps time: what it judges by the clock counts only where it was not kept waiting."""

import asyncio
from math import inf
from time import monotonic
from typing import Final

BEAT: Final = 0.1
"""Seconds between two beats."""
LATE: Final = 0.5
"""Seconds by which a beat is too late: a machine with other work, or too little of it."""


class Pulse:
    """A beat that the loop keeps as well as it keeps all else."""

    def __init__(self) -> None:
        self._due = 0.0
        self._missed = -inf

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._due = monotonic() + BEAT
            await asyncio.sleep(BEAT)
            self._note()

    def missed(self, since: float) -> bool:
        """Whether a beat was too late since then."""
        self._note()
        return self._missed >= since

    def _note(self) -> None:
        now = monotonic()
        if self._due and now > self._due + LATE:
            self._missed = now
