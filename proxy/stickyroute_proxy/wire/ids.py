"""Ids for requests that have none."""

from collections.abc import Iterator
from itertools import count
from typing import Final

_LOW: Final = [b"%02x" % number for number in range(256)]
"""The last two digits: to write a whole number for each request costs more than all else here."""


def ids(prefix: bytes) -> Iterator[bytes]:
    """Numbers behind the prefix, each once; of eight digits as a rule."""
    for high in count(1 << 20):
        start = prefix + b"%x" % high
        for low in _LOW:
            yield start + low
