"""Figures of a row: rounds, ratios within a round, their median and spread, and when they are void."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Self

VOID_BELOW: Final = 0.10
"""The share of the load's core that has to be left: below it, the load was what was measured."""

Sample = Mapping[str, float]
"""What one measurement gave, by the figure's name; `idle` is the share of the load's core left unused."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and their extremes."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Results:
    """The rounds of one row, by peer; `absent` says why a peer has none."""

    rounds: Mapping[str, Sequence[Sample]]
    absent: Mapping[str, str]

    def spread(self, peer: str, figure: str) -> Spread | None:
        """None where the peer was not measured."""
        values = [sample[figure] for sample in self.rounds.get(peer, ()) if figure in sample]
        return Spread.of(values) if values else None

    def ratio(self, figure: str, peer: str, against: str) -> Spread | None:
        """One peer's figure divided by another's of the same round; None where one is missing."""
        ratios = [
            one[figure] / other[figure]
            for one, other in zip(self.rounds.get(peer, ()), self.rounds.get(against, ()), strict=False)
            if figure in one and other.get(figure)
        ]
        return Spread.of(ratios) if ratios else None

    def void(self, *peers: str) -> bool:
        """Whether the load had too little of its core left, for any of these, in the middle round."""
        shares = [self.spread(peer, "idle") for peer in peers]
        return any(share is not None and share.middle < VOID_BELOW for share in shares)
