"""How many further attempts there may be: a share of the requests, so that retries never become the load."""

from collections import deque
from typing import Final

from stickyroute_api.settings import RetryBudget

WINDOW: Final = 10
"""Seconds over which attempts and requests are compared."""


class Budget:
    """Allows attempts by what was asked and what was tried again within the last seconds."""

    __slots__ = ("_marks", "_settings", "attempts")

    attempts: int
    """Further attempts ever allowed."""

    def __init__(self, settings: RetryBudget) -> None:
        self._settings = settings
        self._marks = deque([(0, 0)], maxlen=WINDOW)
        self.attempts = 0

    def take(self, settings: RetryBudget) -> None:
        """Allow by these from now on; what has been counted stays."""
        self._settings = settings

    def mark(self, requests: int) -> None:
        """Note how many requests there have ever been; to be called each second."""
        self._marks.append((requests, self.attempts))

    def allows(self, requests: int) -> bool:
        """Whether one more attempt may be made now, and if so count it. `requests`: as for `mark`."""
        requests_before, attempts_before = self._marks[0]
        settings = self._settings
        allowed = (requests - requests_before) * settings.percent / 100 + settings.per_second * WINDOW
        if self.attempts - attempts_before >= allowed:
            return False
        self.attempts += 1
        return True
