"""What happens in a run, and when: all of it follows from the seed."""

from dataclasses import dataclass
from random import Random

KINDS = {
    "scale_out": 3,
    "scale_in": 3,
    "delete_pod": 4,
    "rollout": 2,
    "weights": 2,
    "blip": 3,
    "crash": 2,
    "reuse": 2,
    "epoch": 1,
    "release": 1,
    "disable": 1,
    "drain": 1,
    "rotate": 1,
    "kill_proxy": 1,
    "restart_proxy": 1,
    "kill_operator": 2,
    "api_outage": 1,
    "rival": 1,
    "bad_routes": 1,
}
"""How often each kind is drawn."""
PAUSE = (0.3, 2.0)
"""Seconds between two events."""
STORE = {"store_slow": 2, "store_away": 1}
"""What befalls the store, beside all others."""
STORE_PAUSE = (4.0, 9.0)


@dataclass(frozen=True)
class Event:
    pause: float
    """Seconds to wait before it."""
    kind: str
    where: float
    """Which of those there are, as a share: pods, Services, proxies."""
    size: float
    """How much or how long, as a share."""

    def pick(self, things):
        return things[int(self.where * len(things))]


def schedule(seed, kinds=None, pause=PAUSE):
    """Events without end: each kind once, and then at random."""
    kinds = KINDS if kinds is None else kinds
    random = Random(f"events {seed}")
    names, weights = list(kinds), list(kinds.values())
    for kind in random.sample(names, len(names)):
        yield _event(random, kind, pause)
    while True:
        yield _event(random, random.choices(names, weights)[0], pause)


def _event(random, kind, pause):
    return Event(random.uniform(*pause), kind, random.random(), random.random())
