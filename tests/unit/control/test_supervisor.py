"""What a supervisor decides, with workers that are told what to answer."""

import asyncio
import base64
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.component.control.support import snapshot, with_pods
from tests.unit.proxy.test_merge import session

from stickyroute_api.affinity import AffinityReport, EndpointSessions, ScopeReport
from stickyroute_api.leases import Lease, Leases
from stickyroute_api.snapshot import Delta
from stickyroute_proxy import supervisor
from stickyroute_proxy.channel import GoneError, Verb
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.receive import UnavailableError
from stickyroute_proxy.supervisor import FIRST_PAUSE, LONGEST_PAUSE, SETTLED, Running, Supervisor, pause


class Scripted:
    """A channel whose worker answers as it is told: by verb an error, or None for silence."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.contents = []

    async def ask(self, verb, content=b""):
        self.asked.append(verb)
        self.contents.append(content)
        answer = self.answers.get(verb.name, b"")
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Process:
    pid = 7
    killed = False

    def kill(self):
        self.killed = True


def supervised(*channels):
    """A supervisor whose workers have joined."""
    options = SimpleNamespace(name="proxy-0", workers=len(channels))
    found = Supervisor(options, None, Encoder(), 1.0)
    for number, channel in enumerate(channels):
        found._running[number] = Running(number, Process(), channel, joined=True)
    return found


@given(st.floats(0, 100), st.floats(0, LONGEST_PAUSE))
def test_who_has_run_is_replaced_at_once_and_who_dies_young_ever_later(lived, last):
    wait = pause(lived, last)
    if lived >= SETTLED:
        assert wait == 0
    else:
        assert FIRST_PAUSE <= wait <= LONGEST_PAUSE
        assert wait >= min(2 * last, LONGEST_PAUSE)


async def test_deltas_go_on_as_deltas():
    channels = Scripted(), Scripted()
    found = supervised(*channels)
    first = snapshot()
    await found.take(first, None)
    second = with_pods(first, 1)
    await found.take(second, Delta.between(first, second))
    for channel in channels:
        assert channel.asked == [Verb.WHOLE, Verb.COMMIT, Verb.DELTA, Verb.COMMIT]


async def test_what_one_refuses_nobody_takes():
    channels = Scripted(), Scripted(WHOLE=ValueError("route shop/a: no")), Scripted()
    found = supervised(*channels)
    with pytest.raises(ValueError, match="route shop/a: no"):
        await found.take(snapshot(), None)
    assert not any(Verb.COMMIT in channel.asked for channel in channels)
    assert await found.report() is None


@pytest.mark.parametrize("how", [{"WHOLE": GoneError()}, {"COMMIT": GoneError()}, {"WHOLE": None}])
async def test_who_dies_or_hangs_over_a_snapshot_holds_nobody_up(monkeypatch, how):
    monkeypatch.setattr(supervisor, "PATIENCE", 0.05)
    lost, other = Scripted(**how), Scripted()
    found = supervised(lost, other)
    await found.take(snapshot(), None)
    assert other.asked == [Verb.WHOLE, Verb.COMMIT]
    assert found._running[0].process.killed == (None in how.values())


async def test_a_snapshot_that_kills_every_worker_is_not_accepted():
    found = supervised(Scripted(WHOLE=GoneError()), Scripted(WHOLE=GoneError()))
    with pytest.raises(UnavailableError):
        await found.take(snapshot(), None)
    assert found._accepted is None


async def test_a_refusal_waits_for_all_answers():
    """Or the next push would come upon a worker that is still busy with this one."""

    class Slow(Scripted):
        answered = False

        async def ask(self, verb, content=b""):
            await asyncio.sleep(0.02)
            self.answered = True
            return await super().ask(verb, content)

    slow = Slow()
    found = supervised(Scripted(WHOLE=ValueError("no")), slow)
    with pytest.raises(ValueError, match="no"):
        await found.take(snapshot(), None)
    assert slow.answered
    assert all(running.asked is None for running in found._running.values())


async def test_with_no_worker_a_push_is_for_later():
    with pytest.raises(UnavailableError):
        await supervised().take(snapshot(), None)


async def test_half_of_the_workers_are_enough():
    found = supervised(Scripted(), Scripted(), Scripted())
    assert found.lacking() == ""
    del found._running[0]
    assert found.lacking() == ""
    del found._running[1]
    assert found.lacking().startswith("1 of 3 workers serve")


async def test_who_hangs_is_told_and_remembered(monkeypatch):
    monkeypatch.setattr(supervisor, "GLANCE", 0.01)
    monkeypatch.setattr(supervisor, "PATIENCE", 0.04)
    hanging = Scripted(SAMPLES=None)
    found = supervised(hanging, Scripted(SAMPLES=b'{"stickyroute_retries": [[[], 2]]}'))
    found._running[0].samples = {"stickyroute_retries": {(): 5}}
    assert found.stuck() == ""
    told = await found.samples()
    assert told["stickyroute_retries"] == {(): 7}
    assert told["stickyroute_workers"] == {(): 2}
    await asyncio.sleep(0.03)
    assert found.stuck() == "worker 0 does not answer"


async def test_the_sessions_of_a_worker_that_died_count_until_they_come_back():
    route = "shop/route-0"
    served = snapshot(routes=1)
    endpoint = next(iter(served.endpoints.values()))[0]
    lines = [session(number) for number in (1, 2)]

    def report(*ids):
        row = EndpointSessions(
            endpoint=endpoint.id,
            pod=endpoint.pod,
            service="web",
            active=len(ids),
            in_flight=0,
            ids=base64.b64encode(b"".join(ids)).decode(),
        )
        scopes = {f"{route}/web": ScopeReport(new=len(ids), endpoints=(row,))}
        return AffinityReport(proxy="proxy-0", started=1.0, epoch=1, revision=1, scopes=scopes)

    found = supervised(Scripted(REPORT=report(*lines).model_dump_json().encode()), Scripted())
    await found.take(served, None)
    assert (await found.report()).scopes[f"{route}/web"].endpoints[0].active == 2
    found._bury(found._running[0])
    for ids, count in ((lines[:0], 2), (lines[:1], 2), (lines, 2), ([*lines, session(3)], 3)):
        found._running[1].report = report(*ids)
        scope = (await found.report()).scopes[f"{route}/web"]
        assert [one.active for one in scope.endpoints] == [count]
        assert scope.new == 2 + len(ids)


async def test_leases_are_shared_out_and_a_silent_worker_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(supervisor, "GLANCE", 0.01)
    channels = Scripted(), Scripted(LEASES=None), Scripted(LEASES=GoneError())
    found = supervised(*channels)
    await found.obey(Leases(fleet="f", epoch=1, sequence=1, scopes={"a/b/c": {"x": Lease(placed=7)}}))
    parts = [Leases.model_validate_json(channel.contents[0]) for channel in channels]
    assert [part.scopes["a/b/c"]["x"].placed for part in parts] == [2, 2, 3]
