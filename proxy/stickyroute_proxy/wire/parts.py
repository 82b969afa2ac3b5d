"""A set in parts, each of which is looked at on its own: requests wait meanwhile."""

from collections.abc import Iterator
from itertools import chain
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Parts(Generic[Member]):
    """A set; members spread over its parts by their hash."""

    __slots__ = ("_parts",)

    def __init__(self, number: int) -> None:
        """`number`: of parts, a prime: addresses, which hashes are made of, have factors in common."""
        self._parts: tuple[set[Member], ...] = tuple(set() for _ in range(number))

    def __iter__(self) -> Iterator[Member]:
        return chain.from_iterable(self._parts)

    def __bool__(self) -> bool:
        return any(self._parts)

    def add(self, member: Member) -> None:
        self._parts[hash(member) % len(self._parts)].add(member)

    def discard(self, member: Member) -> None:
        self._parts[hash(member) % len(self._parts)].discard(member)

    def part(self, turn: int) -> set[Member]:
        """The part whose turn it is, of turns that are counted on and on."""
        return self._parts[turn % len(self._parts)]
