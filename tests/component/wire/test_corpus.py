"""The corpus: each odd message is refused and its connection closed, or served as what it means."""

import asyncio
from contextlib import asynccontextmanager

from tests.component.wire.corpus.answers import every_answer
from tests.component.wire.corpus.asking import Teller, ask_all
from tests.component.wire.corpus.asking import judge as judge_answer
from tests.component.wire.corpus.build import cut, every_request
from tests.component.wire.corpus.run import Record, Recorder, judge, send_all
from tests.component.wire.harness import Proxy, endpoint, eventually, fleet

from stickyroute_api.snapshot import Persistence

REQUESTS = every_request()
ANSWERS = every_answer()


@asynccontextmanager
async def recording():
    """A proxy before a backend that records: (port, record)."""
    record = Record()
    backend = await asyncio.get_running_loop().create_server(lambda: Recorder(record), "127.0.0.1", 0)
    proxy = await Proxy().start(fleet(endpoint(backend.sockets[0].getsockname()[1])))
    try:
        yield proxy.port, record
    finally:
        await proxy.plane.drain(0, 1)
        backend.close()
    await eventually(lambda: not proxy.plane.counters.upstreams)
    assert not proxy.plane.counters.exchanges


def report(messages, results, record):
    """Everything that is wrong, one message a line."""
    found = list(record.faults)
    for message in messages:
        fault = judge(message, results[message.number], record)
        if fault:
            found.append(f"{message.number} [{' + '.join(message.rules)}] {message.name}: {fault}")
    return "\n".join(found)


def test_the_corpus_is_large():
    assert len(REQUESTS) >= 1500


async def test_requests():
    async with recording() as (port, record):
        results = await send_all(port, [(message, ()) for message in REQUESTS])
    faults = report(REQUESTS, results, record)
    assert not faults, f"\n{faults}"


async def test_requests_cut_at_every_byte():
    pieces = list(cut(REQUESTS))
    async with recording() as (port, record):
        results = await send_all(port, pieces)
    faults = report([message for message, _ in pieces], results, record)
    assert not faults, f"\n{faults}"


async def test_answers():
    """Each answer is passed on as what it means, or is a 502, or is seen by the client to have been cut."""
    told = {one.number: one for one in ANSWERS}
    backend = await asyncio.get_running_loop().create_server(lambda: Teller(told), "127.0.0.1", 0)
    given = fleet(endpoint(backend.sockets[0].getsockname()[1]), persistence=Persistence(type="None"))
    proxy = await Proxy().start(given)
    got = await ask_all(proxy.port, ANSWERS)
    await proxy.plane.drain(0, 1)
    backend.close()
    await eventually(lambda: not proxy.plane.counters.upstreams)
    assert not proxy.plane.counters.exchanges
    faults = [
        f"{one.number} [{' + '.join(one.rules)}] {one.method.decode()} {one.name}: {fault}"
        for one in ANSWERS
        if (fault := judge_answer(one, got[one.number]))
    ]
    assert not faults, "\n" + "\n".join(faults)
