"""The leases channel: who may lend, what is refused, and that each proxy is told for itself."""

import asyncio
import contextlib
import socket
from random import Random

import pytest
from tests.component.control.support import client, serve, snapshot
from tests.unit.operator.test_leases import POD, draining, report
from tests.waiting import until

from stickyroute_api.control import Role
from stickyroute_api.leases import Drain, Lease, Leases
from stickyroute_operator.lend import Lender
from stickyroute_operator.publish import ProxyAddress, Publisher
from stickyroute_operator.report import Collector


def leases(epoch=1, sequence=1, **more):
    return Leases(fleet="stickyroute", epoch=epoch, sequence=sequence, **more)


async def put(session, served, body):
    async with session.put(f"{served.url}/v1/leases", data=body.model_dump_json()) as answer:
        return answer.status, (await answer.json()).get("error", "")


async def test_leases_are_taken_in_order(authority, files):
    async with serve(files) as served, client(authority.context()) as session:
        first = leases(drains={POD: Drain(sessions=3, since=1.0)}, scopes={"a/b/c": {"uid": Lease(placed=4)}})
        assert (await put(session, served, first))[0] == 200
        assert (await put(session, served, leases(sequence=2)))[0] == 200
        for stale in (leases(sequence=1), leases(epoch=0, sequence=9)):
            status, error = await put(session, served, stale)
            assert status == 409
            assert "older than 1.2" in error
        assert (await put(session, served, leases(epoch=2, sequence=1)))[0] == 200
        assert [(one.epoch, one.sequence) for one in served.leases] == [(1, 1), (1, 2), (2, 1)]
        assert served.leases[0] == first
        assert served.receiver.leases == served.leases[-1]


async def test_leases_of_an_epoch_before_the_snapshots_are_refused(authority, files):
    async with serve(files) as served, client(authority.context()) as session:
        await session.put(f"{served.url}/v1/snapshot", data=snapshot(epoch=3).model_dump_json())
        status, error = await put(session, served, leases(epoch=2))
        assert (status, error) == (409, "leases of epoch 2, and the snapshot is of 3")
        assert (await put(session, served, leases(epoch=3)))[0] == 200


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"fleet": "other"}, "for fleet 'other'"),
        ({"sequence": -1}, "sequence: Input should be greater"),
        ({"surprise": 1}, "surprise: Extra inputs"),
    ],
)
async def test_invalid_leases_are_explained(authority, files, change, expected):
    async with serve(files) as served, client(authority.context()) as session:
        body = leases().model_dump(mode="json") | change
        async with session.put(f"{served.url}/v1/leases", json=body) as answer:
            assert answer.status == 422
            assert expected in (await answer.json())["error"]
        assert served.receiver.leases is None


async def test_only_the_operator_lends(authority, files):
    async with serve(files) as served, client(authority.context(Role.PROXY)) as session:
        assert (await put(session, served, leases()))[0] == 403


@contextlib.asynccontextmanager
async def operator(authority, pace=0.02):
    """Publisher, collector and lender, as the operator joins them."""
    context = authority.context()
    lender = None

    def changed():
        lender.poke()

    publisher = Publisher(authority.fleet, lambda: context, lambda: None)
    collector = Collector(
        lambda: context, changed, random=Random(1), busy=0.02, quiet=0.02, hurried=0.02, now=lambda: 1.0
    )
    lender = Lender(publisher, collector, pace=pace)
    lending = asyncio.create_task(lender.run())

    def target(proxies):
        for part in (publisher, collector, lender):
            part.target(proxies)

    try:
        yield publisher, target
    finally:
        lending.cancel()
        await asyncio.gather(lending, return_exceptions=True)
        for part in (lender, collector, publisher):
            await part.close()


async def test_a_drain_is_told_again_and_again_and_its_end_once(authority, files):
    known = [report("a", 1, 2)]
    async with (
        serve(files, report=lambda: known[-1]) as a,
        serve(files, report=lambda: report("b", 2, 3)) as b,
        operator(authority) as (publisher, target),
    ):
        target({"a": a.address, "b": b.address})
        publisher.publish(draining())
        await until(lambda: len(a.leases) > 3 and len(b.leases) > 3)
        assert a.leases[-1].drains[POD].sessions == 3
        assert a.leases[-1].sequence > a.leases[-2].sequence
        known.append(report("a"))
        await until(lambda: b.leases[-1].drains[POD].sessions == 2)
        publisher.publish(snapshot(6))
        await until(lambda: a.leases[-1].empty and b.leases[-1].empty)
        told = len(a.leases)
        await asyncio.sleep(0.1)
        assert len(a.leases) == told


async def test_a_drain_is_told_at_once(authority, files):
    async with (
        serve(files, report=lambda: report("a", 1)) as a,
        operator(authority, pace=60) as (publisher, target),
    ):
        target({"a": a.address})
        publisher.publish(draining())
        await until(lambda: any(one.drains for one in a.leases))


async def test_a_dead_proxy_delays_nobody(authority, files):
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        async with (
            serve(files, report=lambda: report("a", 1)) as a,
            operator(authority) as (publisher, target),
        ):
            target(
                {
                    "frozen": ProxyAddress("127.0.0.1", frozen.getsockname()[1], ready=False),
                    "refusing": ProxyAddress("127.0.0.1", 1, ready=False),
                    "a": a.address,
                }
            )
            publisher.publish(draining())
            await until(lambda: len(a.leases) > 3)
            assert a.leases[-1].drains[POD].sessions == 1


async def test_nothing_is_lent_while_there_is_nothing_to_say(authority, files):
    async with (
        serve(files, report=lambda: report("a", 1)) as a,
        operator(authority) as (publisher, target),
    ):
        target({"a": a.address})
        publisher.publish(snapshot(5))
        await until(lambda: a.used)
        await asyncio.sleep(0.1)
        assert a.leases == []
