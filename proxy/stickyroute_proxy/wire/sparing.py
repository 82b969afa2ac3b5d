"""Saying a thing once in a while, however often there is reason to."""

from typing import Final

EVERY: Final = 60.0
"""Seconds between two times that the same is said."""
MOST: Final = 256
"""How many different things are said within them."""


class Sparing:
    """What has been said of late."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def due(self, what: str, now: float) -> bool:
        """Whether it is to be said now; it counts as said then."""
        said = self._said
        before = said.pop(what, None)
        if before is not None and now < before + EVERY:
            said[what] = before
            return False
        if len(said) >= MOST:
            oldest = min(said, key=said.__getitem__)
            if now < said[oldest] + EVERY:
                return False
            del said[oldest]
        said[what] = now
        return True
