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
from stickyroute_operator.reporter import COUNTS, ENDS, FIRST_REPORTS, Fleet, Reporter
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


@pytest.fixture
def ends(reporter, journal, fleet, clock):
    """What is told of ends when the sum is that, after so many seconds; `counters` as in Fleet."""

    async def look_at(sessions, *, counters=(), seconds=ENDS):
        view = ScopeView(Totals(ended={IDLE: sessions}), (), (), 1.0)
        scopes = {"default/shop/web": view}
        fleet[0] = replace(fleet[0], scopes=scopes, counters=frozenset((name, 1.0) for name in counters))
        clock[0] += seconds
        known = len(journal.told)
        await look(reporter, 2)
        return [told for reason, told in journal.told[known:] if reason is EventReason.SESSIONS_ENDED]

    return look_at


async def test_ends_that_were_counted_before_the_operator_began_are_not_told(ends):
    """Reports come one by one, and hold what proxies have counted all their lives."""
    assert await ends(0) == []
    assert await ends(60, counters=["proxy-0"]) == []
    assert await ends(100, counters=["proxy-0", "proxy-1"]) == []
    assert await ends(103, counters=["proxy-0", "proxy-1"]) == ["3 sessions ended: IdleTimeout"]
    # What is remembered of ended processes is bounded: their counts stay.
    assert await ends(104, counters=["proxy-1"]) == ["1 session ended: IdleTimeout"]
    # A proxy that was out of reach when the operator began.
    assert await ends(500, counters=["proxy-1", "proxy-2"]) == []
    assert await ends(501, counters=["proxy-1", "proxy-2"]) == ["1 session ended: IdleTimeout"]


async def test_sums_that_are_smaller_than_before_are_a_new_beginning(ends):
    assert await ends(60) == []
    assert await ends(10) == []
    assert await ends(12) == ["2 sessions ended: IdleTimeout"]


async def test_what_a_scope_counted_before_the_route_had_it_is_not_told(ends, reporter):
    translation = reporter._reconciler.translation
    ((key, verdict),) = translation.verdicts.items()
    assert await ends(60) == []
    translation.verdicts[key] = replace(verdict, scopes=())
    assert await ends(60) == []
    translation.verdicts[key] = verdict
    assert await ends(60) == []
    assert await ends(61) == ["1 session ended: IdleTimeout"]


async def test_ends_of_a_busy_route_are_gathered_and_none_is_left_out(ends, api):
    assert await ends(0) == []
    assert await ends(2) == ["2 sessions ended: IdleTimeout"]
    for sessions in (3, 4, 5):
        assert await ends(sessions, seconds=COUNTS) == []
    written = len(api.written)
    assert written == 5
    # Told when it is time, though nothing else is to be written.
    assert await ends(5, seconds=ENDS - 3 * COUNTS) == ["3 sessions ended: IdleTimeout"]
    assert await ends(5) == []
    assert len(api.written) == written


async def test_it_is_known_when_gathered_ends_are_due(ends, reporter, clock):
    await ends(0)
    await ends(2)
    told_at = clock[0]
    await ends(3, seconds=COUNTS)
    assert await look(reporter) == told_at + ENDS


async def test_a_status_that_need_not_be_written_is_counted_from_too(ends, api, reporter):
    await ends(60)
    (entry,) = reporter._entries.values()
    reporter._entries.clear()
    reporter._entry(entry.seen.verdict.route).written = entry.written  # by another operator
    assert await ends(60) == []
    assert len(api.written) == 1
    assert await ends(61) == ["1 session ended: IdleTimeout"]


@pytest.fixture
async def poke(reporter, clock, monkeypatch):
    """Pokes a reporter that runs, of an operator that begins, and lets it work."""
    monkeypatch.setattr("stickyroute_operator.reporter.GATHER", 0.0)
    reporter._reconciler.starting_until = clock[0]
    running = asyncio.get_running_loop().create_task(reporter.run())

    async def poke():
        reporter.poke()
        for _ in range(10):
            await asyncio.sleep(0)

    yield poke
    running.cancel()


@pytest.mark.parametrize("silent", [False, True])
async def test_an_operator_that_begins_waits_a_while_for_what_proxies_tell(api, fleet, clock, poke, silent):
    """A status without it would tell of no session, and of pods as if none were unhealthy."""
    fleet[0] = replace(fleet[0], has_told=False)
    await poke()
    clock[0] += FIRST_REPORTS - 0.1
    await poke()
    assert api.written == []
    if silent:  # it is broken, perhaps for ever
        clock[0] += 0.1
    else:
        fleet[0] = replace(fleet[0], has_told=True)
    await poke()
    assert len(api.written) == 1


async def test_without_a_proxy_that_serves_nothing_is_waited_for(api, fleet, poke):
    fleet[0] = Fleet(has_told=False)
    await poke()
    assert len(api.written) == 1
