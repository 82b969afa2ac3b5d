"""Consistent hashing by rendezvous (highest random weight): every proxy says the same, whatever it has seen.

A number, the digest of a session id or of a hashed value, first chooses a backend by weight and then one of
its endpoints, each time the candidate with the highest score. Scores depend on the number and the candidate
alone: without an endpoint only its own numbers choose differently, a further one takes only what becomes its
own, and a changed weight moves what the weight gains.

An endpoint's score is the product of the number and its seed, modulo 2^64. One multiplication makes them all,
each in 128 bits of its own: some 60 ns an endpoint, and no table to build or to agree upon.
"""

from collections.abc import Iterable
from math import log
from struct import Struct
from typing import Final

from stickyroute_proxy.affinity.endpoint import Endpoint

_WORD: Final = (1 << 64) - 1
_UNIT: Final = 2.0**-52


class _Group:
    """A backend's endpoints with their seeds, one behind the other in one integer."""

    __slots__ = ("endpoints", "scores", "seed", "seeds", "size", "weight")

    def __init__(self, seed: int, weight: int, endpoints: tuple[Endpoint, ...]) -> None:
        self.seed = seed
        self.weight = weight
        self.endpoints = endpoints
        self.size = 16 * len(endpoints)
        self.seeds = int.from_bytes(
            b"".join([one.seed.to_bytes(16, "little") for one in endpoints]), "little"
        )
        self.scores = Struct("<" + "Q8x" * len(endpoints)).unpack

    def score(self, number: int) -> tuple[float, int]:
        """Weighted: a backend of twice the weight is twice as likely to have the highest."""
        # 52 bits and a half: exact in a float, never 0 and never 1.
        uniform = ((number * self.seed & _WORD) >> 12) + 0.5
        return self.weight / -log(uniform * _UNIT), self.seed


class Rendezvous:
    """Where numbers below 2^64 go."""

    __slots__ = ("_groups",)

    def __init__(self, groups: Iterable[tuple[int, int, tuple[Endpoint, ...]]]) -> None:
        """Backends: seed, weight, and their endpoints. There is at least one, and none is empty."""
        self._groups = [_Group(*group) for group in groups]

    def highest(self, number: int) -> Endpoint:
        groups = self._groups
        group = groups[0] if len(groups) == 1 else max(groups, key=lambda one: one.score(number))
        scores = group.scores((number * group.seeds).to_bytes(group.size, "little"))
        return group.endpoints[scores.index(max(scores))]
