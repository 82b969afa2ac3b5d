"""The same bytes in other pieces."""

from binascii import crc32
from collections.abc import Callable, Iterator
from random import Random
from typing import TypeVar

T = TypeVar("T")


def same_in_pieces(read: Callable[[list[bytes]], T], data: bytes) -> T:
    """What is read of the bytes in one piece; fails where other pieces make it another thing."""
    whole = read([data])
    for pieces in _cuts(data):
        found = read(pieces)
        assert found == whole, (found, whole, pieces)
    return whole


def _cuts(data: bytes) -> Iterator[list[bytes]]:
    """One byte each, and some at random: the bytes themselves are the seed."""
    if 1 < len(data) <= 1024:
        yield [data[at : at + 1] for at in range(len(data))]
    random = Random(crc32(data))
    for _ in range(3):
        cuts = sorted(random.sample(range(len(data) + 1), min(random.randrange(1, 4), len(data))))
        ends = [*cuts, len(data)]
        yield [piece for start, end in zip([0, *cuts], ends, strict=True) if (piece := data[start:end])]
