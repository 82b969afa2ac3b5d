"""What was seen lately."""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

GENERATION: Final = 32_768
"""Between so many and twice as many are remembered."""

V = TypeVar("V")


class Recent(Generic[V]):
    """The newest numbers and what they led to: bounded, every step O(1).

    Those that are not asked for are forgotten.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[int, V] = {}
        self._old: dict[int, V] = {}

    def get(self, number: int) -> V | None:
        found = self._young.get(number)
        if found is None and (found := self._old.pop(number, None)) is not None:
            self.put(number, found)
        return found

    def put(self, number: int, value: V) -> None:
        self._young[number] = value
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}


def until(found: Mapping[bytes, tuple[object, float]], time: float) -> list[bytes]:
    """The keys of what came up to that time; `found` is in the order of time, which stands second."""
    keys = []
    for key, (_, since) in found.items():
        if since > time:
            break
        keys.append(key)
    return keys
