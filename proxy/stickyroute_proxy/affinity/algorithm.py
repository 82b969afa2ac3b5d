"""Which endpoint of a backend takes a new session: one function for each algorithm."""

from collections.abc import Callable
from operator import attrgetter
from random import Random

from stickyroute_api import snapshot
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.sessions import ScopeSessions


class Turn:
    """Endpoints that are alike good, and whose turn it is. There is at least one when it is asked."""

    __slots__ = ("cursor", "endpoints")

    def __init__(self, endpoints: tuple[Endpoint, ...], random: Random) -> None:
        self.endpoints = endpoints
        # Proxies that start together would otherwise all begin with the same pod.
        self.cursor = random.randrange(1 << 16)


Algorithm = Callable[[Turn, Random], Endpoint]
Count = Callable[[Endpoint], int]


def algorithm(balancing: snapshot.Balancing, sessions: ScopeSessions) -> Algorithm:
    """The function for this algorithm; for Hash the one that places requests without a value."""
    match balancing.algorithm:
        case "RoundRobin":
            return in_turn
        case "LeastRequests":
            return fewest(attrgetter("in_flight"), balancing.choices)
        case "LeastSessions":
            return fewest(sessions.at, balancing.choices)
        case "Random" | "Hash":
            return at_random


def in_turn(turn: Turn, _random: Random) -> Endpoint:
    endpoints = turn.endpoints
    at = turn.cursor % len(endpoints)
    turn.cursor = at + 1
    return endpoints[at]


def at_random(turn: Turn, random: Random) -> Endpoint:
    endpoints = turn.endpoints
    return endpoints[int(random.random() * len(endpoints))]


def fewest(count: Count, choices: int) -> Algorithm:
    """The one with the smallest count of so many taken at random, 0: of all."""

    def of_all(turn: Turn, _random: Random) -> Endpoint:
        endpoints = turn.endpoints
        counts = list(map(count, endpoints))
        least = min(counts)
        # Those that are alike take turns.
        at = turn.cursor % len(counts)
        at = counts.index(least, at) if least in counts[at:] else counts.index(least)
        turn.cursor = at + 1
        return endpoints[at]

    def of_two(turn: Turn, random: Random) -> Endpoint:
        endpoints = turn.endpoints
        total = len(endpoints)
        if total == 1:
            return endpoints[0]
        first = int(random.random() * total)
        second = int(random.random() * (total - 1))
        if second >= first:
            second += 1
        one, other = endpoints[first], endpoints[second]
        return one if count(one) <= count(other) else other

    def of_some(turn: Turn, random: Random) -> Endpoint:
        endpoints = turn.endpoints
        if choices >= len(endpoints):
            return of_all(turn, random)
        return min(random.sample(endpoints, choices), key=count)

    return {0: of_all, 1: at_random, 2: of_two}.get(choices, of_some)
