"""Whether the event loop keeps up: it is late with its ticks when there is more to do than it can."""

from typing import Final

LATE: Final = 0.2
"""Seconds of smoothed lag above which it is overloaded."""
RECOVERED: Final = 0.1
"""Seconds below which it is so no more."""
SHARE: Final = 0.125
"""How much one tick counts in the smoothed lag."""
MOST: Final = 2 * LATE
"""What one tick counts as at most: a single pause, however long, is no overload."""


class Overload:
    """Follows the lag of one loop."""

    __slots__ = ("lag", "present")

    lag: float
    """Smoothed, seconds."""
    present: bool

    def __init__(self) -> None:
        self.lag = 0.0
        self.present = False

    def tick(self, late: float) -> None:
        """A tick has come so many seconds after its time."""
        self.lag += (min(max(late, 0.0), MOST) - self.lag) * SHARE
        self.present = self.lag > (RECOVERED if self.present else LATE)
