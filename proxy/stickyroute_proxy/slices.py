"""Long work in slices: between two of them the event loop, and the requests on it, get their turn.

The work is a generator that yields wherever it may be interrupted, and returns what it made.
"""

import asyncio
import time
from collections.abc import Generator
from typing import Final, TypeVar

Made = TypeVar("Made")
Steps = Generator[None, None, Made]

SLICE: Final = 0.001
"""Seconds of work after which the loop gets its turn."""


async def in_slices(steps: Steps[Made]) -> Made:
    """Do the work, and never hold the loop for much longer than `SLICE` and one step."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: Made = end.value
            return made
        if time.perf_counter() - began > SLICE:
            await asyncio.sleep(0)
            began = time.perf_counter()


def at_once(steps: Steps[Made]) -> Made:
    """Do the work where nobody waits for the loop."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: Made = end.value
            return made
