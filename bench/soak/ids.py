"""The id that follows one request through head, body and answer, so that nothing can be mixed up unseen."""

from random import Random
from typing import Final

FIELD: Final = b"X-Soak-Id"
SIZE: Final = 16


def new(random: Random) -> bytes:
    return b"%016x" % random.getrandbits(64)


def repeated(name: bytes, size: int) -> bytes:
    """A body: the id over and over, so that a part of another's stands out wherever it is."""
    return (name * (size // SIZE + 1))[:size]
