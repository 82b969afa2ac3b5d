"""What a soak must not change: pure judgements of what was read."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

MARK: Final = 0.2
"""The share of the run after which memory has to have settled."""
WINDOW: Final = 0.1
"""The share of the run whose median stands for one mark."""
GROWTH: Final = 0.05
"""How much memory may grow from the mark to the end."""

PAIRS: Final = 3
"""So few pairs of rounds, with slow clients and without, say something."""
HARM: Final = 1.5
"""How many times as high slow clients may drive the others' p99."""
EACH: Final = 256 * 1024
"""Bytes of memory that a slow client may hold."""


def at(samples: Sequence[float], mark: float) -> float:
    """The median of the window that begins at a mark; the last ones where it reaches beyond the end."""
    size = max(1, round(len(samples) * WINDOW))
    begin = min(int(len(samples) * mark), len(samples) - size)
    return median(samples[begin : begin + size])


def growth(samples: Sequence[float]) -> float:
    """By which share memory grew from the mark to the end; negative where it fell."""
    return at(samples, 1) / at(samples, MARK) - 1


def grown(samples: Sequence[float]) -> list[str]:
    """The fault of memory that grew too much."""
    if len(samples) < 1 / WINDOW:
        return [f"memory was read {len(samples)} times only: the run was too short to judge it"]
    share = growth(samples)
    if share <= GROWTH:
        return []
    before, after = at(samples, MARK) / 1e6, at(samples, 1) / 1e6
    return [f"memory grew by {share:.1%}, from {before:.1f} MB at {MARK:.0%} of the run to {after:.1f} MB"]


def harm(pairs: Sequence[tuple[float, float]]) -> float:
    """How many times the others' p99 without slow clients it is beside them: the median of the pairs."""
    return median(beside / alone for alone, beside in pairs)


def harmed(pairs: Sequence[tuple[float, float]], void: int) -> list[str]:
    """The fault of slow clients that harm the others, or of too few pairs that count: nothing is known then.

    `void`: how many do not count.
    """
    if len(pairs) < PAIRS:
        pairs_void = (
            f"of {len(pairs) + void} pairs of rounds {void} are void, as other processes used the cores"
        )
        return [f"slow clients were not judged: {pairs_void}; have the machine rest, {PAIRS} have to count"]
    if (times := harm(pairs)) <= HARM:
        return []
    return [f"the others' p99 beside slow clients is {times:.2f} times that without them"]


def costly(each: float) -> list[str]:
    """The fault of slow clients that hold too much memory."""
    if each <= EACH:
        return []
    return [f"a slow client holds {each / 1024:.0f} KiB of the proxy's memory"]


def unreturned(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """The faults of what is more, with no load, than it was after the warm-up."""
    return [
        f"{name} is {after[name]:g} with the load gone; it was {idle:g} after the warm-up"
        for name, idle in before.items()
        if after[name] > idle
    ]
