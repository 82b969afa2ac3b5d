from collections import Counter
from functools import partial

import pytest

from stickyroute_operator.cluster import PODS, SERVICES, ApiError
from stickyroute_operator.health import Health
from stickyroute_operator.resync import AFTER_OUTAGE, INTERVAL, RETRY, Resync
from stickyroute_operator.store import Store


class Stop(Exception):  # noqa: N818
    """The story is told."""


class World:
    def __init__(self):
        self.now = 1000.0
        self.away = False
        self.items = []
        self.version = 0
        self.slept = []
        self.steps = []
        self.restarts = 0
        self.heard = Counter()
        self.store = Store()
        self.resync = Resync(
            self,
            self.store,
            heard=self.heard,
            restart_watches=self._restart,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def _restart(self):
        self.restarts += 1

    async def _sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        if not self.steps:
            raise Stop
        self.steps.pop(0)()

    async def list_all(self, resource, *, namespace="", selector=""):
        if self.away:
            raise ApiError("connection refused")
        self.version += 1
        return (list(self.items) if resource == SERVICES else []), str(self.version)

    def service(self, name):
        self.items.append({"metadata": {"name": name, "resourceVersion": str(self.version)}})

    async def run(self, *steps):
        self.steps = list(steps)
        with pytest.raises(Stop):
            await self.resync.run()


async def test_an_outage_is_tried_through_and_looked_after():
    world = World()

    def away():
        world.away = True

    def back():
        world.away = False

    await world.run(away, lambda: None, back, *[lambda: None] * (len(AFTER_OUTAGE) + 1))
    assert world.slept == [INTERVAL, RETRY, RETRY, *AFTER_OUTAGE, INTERVAL, INTERVAL]
    assert world.resync.counts == {"success": 8, "failure": 2}
    assert not world.resync.error


async def test_a_deaf_watch_is_started_anew():
    world = World()
    names = iter("abcdefgh")
    await world.run(*[lambda: world.service(next(names))] * 3)
    assert world.restarts == 1
    assert world.resync.missed["Service"] == 3


async def test_a_watch_that_is_heard_is_not():
    world = World()
    names = iter("abcdefgh")

    def change():
        world.service(next(names))
        world.heard["Service"] += 1

    await world.run(*[change] * 4)
    assert world.restarts == 0


async def test_quiet_clusters_are_no_sign_of_a_deaf_watch():
    world = World()
    await world.run(*[lambda: None] * 5)
    assert world.restarts == 0


async def test_health_fails_for_what_a_restart_cures_only():
    world = World()
    health = Health(clock=lambda: world.now)
    assert health.trouble() == ""
    health.resync = world.resync
    await world.resync.once()
    assert health.trouble() == ""

    world.now += 3 * INTERVAL + 1  # nobody tries any more
    assert "no resync was tried" in health.trouble()

    world.away = True  # tried, in vain: the API's trouble, not ours
    await world.resync.once()
    assert health.trouble() == ""

    world.away = False
    await world.resync.once()
    world.resync.missed["Service"] = 6
    assert "watches on Service" in health.trouble()
    world.resync.missed.clear()

    class Watches:
        stillborn = 60

    health.watches = Watches()
    assert "as soon as they began" in health.trouble()
    world.away = True
    await world.resync.once()
    assert health.trouble() == ""


async def test_readiness_tells_what_is_waited_for():
    health = Health()
    assert "API server" in health.lack()
    health.waiting_for = ""
    assert health.lack() == "nothing was listed yet"


async def test_pods_are_listed_seldom_and_whenever_something_may_be_amiss():
    world = World()
    listed = []
    plain = world.list_all

    async def list_all(resource, **more):
        listed.append(resource)
        return await plain(resource, **more)

    world.list_all = list_all

    def count():
        counts.append(listed.count(PODS))

    counts = []
    away = partial(setattr, world, "away", True)
    back = partial(setattr, world, "away", False)
    await world.run(*[count] * 9, count, count, away, back, count)
    assert counts[:9] == [1] * 9
    assert counts[9:11] == [1, 2]
    assert counts[-1] == 3
