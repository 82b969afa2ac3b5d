"""Sharing out a whole number. Pure: the operator does it over proxies, a proxy over its workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stickyroute_api.affinity import EndpointSessions
from stickyroute_api.leases import Leases

ROTATION: Final = 5
"""Leases after which another is the first: who is to have less must have heard of it meanwhile."""

MAX_SENT: Final = 8
"""So many leases are told apart that nobody has reported by yet."""

Place = tuple[str, str]
"""Scope identity and `Endpoint.id`."""


def above(total: int, used: Sequence[int]) -> list[int]:
    """Parts whose sum is `total`, each what is used already and an even share of the rest."""
    left = total - sum(used)
    if left < 0:
        return weighted(total, used)
    each, more = divmod(left, max(1, len(used)))
    return [own + each + (number < more) for number, own in enumerate(used)]


def weighted(total: int, weights: Sequence[int]) -> list[int]:
    """Parts whose sum is `total`, by weight; even where nothing weighs."""
    whole = sum(weights)
    if not whole:
        return above(total, [0] * len(weights))
    parts, given, seen = [], 0, 0
    for weight in weights:
        seen += weight
        upto = total * seen // whole
        parts.append(upto - given)
        given = upto
    return parts


def apportion(room: int, held: Sequence[int], demand: Sequence[int], turn: int) -> list[int]:
    """How much of `room` each may take from now on.

    `held` is what each may take by what it was told before, and goes on taking until it has heard anew: so
    what one is to have less of, the others get only when it is held no more. Whatever is heard and whatever
    is not, `room` is never exceeded, unless more than that was held before. `turn` says who is first where
    there is too little for all.
    """
    room = max(0, room)
    free = max(0, room - sum(held))
    order = [(turn + number) % len(held) for number in range(len(held))]
    shares = list(held)
    for who, share in zip(order, weighted(room, [demand[who] for who in order]), strict=True):
        more = min(share - held[who], free)
        shares[who] += more
        free -= max(0, more)
    return shares


Ceilings = Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class Lent:
    """What one holder was sent that it has not reported by yet: it may go by any of it."""

    sent: tuple[tuple[tuple[int, int], Ceilings], ...] = ()
    """With epoch and sequence of each, in order."""

    def add(self, leases: Leases) -> "Lent":
        """With what it is sent now that it may place."""
        ceilings = {
            (scope, endpoint): lease.placed
            for scope, endpoints in leases.scopes.items()
            for endpoint, lease in endpoints.items()
            if lease.placed is not None
        }
        return self._with(leases.number, ceilings)

    def add_moves(self, leases: Leases) -> "Lent":
        """With what it is sent now that it may move."""
        ceilings = {
            (scope, endpoint): moves.sessions
            for scope, endpoints in leases.moves.items()
            for endpoint, moves in endpoints.items()
        }
        return self._with(leases.number, ceilings)

    def _with(self, number: tuple[int, int], ceilings: Ceilings) -> "Lent":
        sent = (*self.sent, (number, ceilings))
        if len(sent) > MAX_SENT:
            (_, one), (joint, other), *rest = sent
            joined = {place: max(one.get(place, 0), other.get(place, 0)) for place in {*one, *other}}
            sent = ((joint, joined), *rest)
        return Lent(sent)

    def heard(self, leased: tuple[int, int]) -> "Lent":
        """What is left of it when the holder reports by leases of that number."""
        return Lent(tuple(one for one in self.sent if one[0] > leased)) if self.sent else self

    def since(self, leased: tuple[int, int]) -> "Lent":
        """What is left of it with the leases of that number, whose ceilings the holder does not tell."""
        return Lent(tuple(one for one in self.sent if one[0] >= leased)) if self.sent else self

    def most(self, place: Place) -> int:
        """The highest ceiling of it."""
        return max((ceilings.get(place, 0) for _, ceilings in self.sent), default=0)

    def held(self, place: Place, told: EndpointSessions | None) -> int:
        """How many more it may place, given what it reported."""
        placed, ceiling = (told.placed, told.ceiling or 0) if told is not None else (0, 0)
        return max(0, max(ceiling, self.most(place)) - placed)
