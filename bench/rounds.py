"""Works that are timed side by side in one process, in interleaved rounds."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Work:
    """Calls that are timed together."""

    run: Callable[[], object]
    """Makes them all."""
    calls: int
    prepare: Callable[[], object] = lambda: None
    """What is done before each round, and not timed."""


def interleaved(works: Mapping[K, Work], rounds: int) -> dict[K, list[float]]:
    """Microseconds of one call in each round.

    They are of the thread's own time, to which other processes add little, and without the collector of
    cycles, whose turn would come in some rounds only. One more round before them fills the caches.
    """
    taken: dict[K, list[float]] = {each: [] for each in works}
    for _ in range(rounds + 1):
        for each, work in works.items():
            work.prepare()
            gc.collect()
            gc.disable()
            try:
                began = time.thread_time()
                work.run()
                taken[each].append((time.thread_time() - began) / work.calls * 1e6)
            finally:
                gc.enable()
    return {each: found[1:] for each, found in taken.items()}
