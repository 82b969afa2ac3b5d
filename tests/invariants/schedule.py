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


def schedule(seed):
    """Events without end: each kind once, and then at random."""
    random = Random(f"events {seed}")
    names, weights = list(KINDS), list(KINDS.values())
    for kind in random.sample(names, len(names)):
        yield _event(random, kind)
    while True:
        yield _event(random, random.choices(names, weights)[0])


def _event(random, kind):
    return Event(random.uniform(*PAUSE), kind, random.random(), random.random())
