import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from tests.unit.operator.builders import endpoint, pieces, route, service, state

from stickyroute_api.reasons import BindingReason, EventReason
from stickyroute_api.snapshot import Version
from stickyroute_operator.cluster import CONFLICT, NOT_FOUND, ApiError
from stickyroute_operator.ledger import ScopeView, Totals
from stickyroute_operator.reconcile import Acked, Carried
from stickyroute_operator.reporter import COUNTS, Fleet, Reporter
from stickyroute_operator.translate import translate

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
V1 = Version(3, 1)


class Api:
    """Takes statuses, or refuses them."""

    def __init__(self):
        self.refusal = 0
        self.written = []

    async def patch(self, resource, namespace, name, body, *, part=""):
        self.written.append((namespace, name, body))
        if self.refusal:
            raise ApiError("refused", self.refusal)
        return {}


class Journal:
    def __init__(self):
        self.told = []

    async def write(self, route, event):
        self.told.append((event.reason, event.message))


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def journal():
    return Journal()


@pytest.fixture
def fleet():
    """What the proxies tell: put another one in to change it."""
    return [Fleet(proxies=(Acked("proxy-0", True, V1),))]


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def reporter(api, journal, fleet, clock):
    translation = translate(state(route(), service(), pieces(endpoint("web-1", "10.0.0.1"))))
    reconciler = SimpleNamespace(
        translation=translation,
        carried=dict.fromkeys(translation.verdicts, Carried(V1, V1)),
        version=V1,
        published_at=0.0,
        starting_until=0.0,
    )
    return Reporter(api, journal, reconciler, lambda: fleet[0], clock=lambda: clock[0], now=lambda: NOW)


async def look(reporter, times=1):
    for _ in range(times):
        due = await reporter.report()
        for _ in range(5):
            await asyncio.sleep(0)
    return due


async def test_a_status_is_written_once(api, reporter):
    await look(reporter, 3)
    ((namespace, name, body),) = api.written
    assert (namespace, name, body["metadata"]["uid"]) == ("default", "shop", "uid-shop")


@pytest.mark.parametrize("refusal", [NOT_FOUND, CONFLICT, 500])
async def test_a_write_that_failed_waits_before_it_is_tried_again(api, reporter, refusal, caplog):
    api.refusal = refusal
    due = await look(reporter, 5)
    assert len(api.written) == 1
    assert due > 100.0
    # What is deleted meanwhile is no trouble: the watch will tell.
    assert ("status of StickyRoute default/shop" in caplog.text) == (refusal != NOT_FOUND)


IDLE = BindingReason.IDLE_TIMEOUT


async def test_ends_that_were_counted_before_the_operator_began_are_not_told(reporter, journal, fleet, clock):
    """Reports come one by one, and hold what proxies have counted all their lives."""

    async def look_at(sessions, *, counted=True):
        view = ScopeView(Totals(ended={IDLE: sessions}), (), (), 1.0)
        fleet[0] = replace(fleet[0], scopes={"default/shop/web": view}, counted=counted)
        clock[0] += COUNTS
        await look(reporter)
        return [message for reason, message in journal.told if reason is EventReason.SESSIONS_ENDED]

    assert await look_at(0, counted=False) == []
    assert await look_at(60, counted=False) == []
    assert await look_at(100) == []
    assert await look_at(103) == ["3 sessions ended: IdleTimeout"]


async def test_a_status_that_need_not_be_written_is_counted_from_too(api, reporter):
    await look(reporter)
    (entry,) = reporter._entries.values()
    entry.counted = False  # as if another operator had written it
    await look(reporter)
    assert (entry.counted, len(api.written)) == (True, 1)
