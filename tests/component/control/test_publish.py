"""The publisher against real control ports: all arrives, once, in order, and none waits for another."""

import asyncio
import contextlib
import socket
import time
from random import Random

import aiohttp
import pytest
from tests.component.control.support import Authority, serve, snapshot, with_pods
from tests.waiting import until

from stickyroute_api.snapshot import Version
from stickyroute_operator.publish import ProxyAddress, Publisher


@contextlib.asynccontextmanager
async def publisher(authority, **more):
    context = authority.context()
    found = Publisher(
        authority.fleet, lambda: context, more.pop("changed", lambda: None), random=Random(1), **more
    )
    try:
        yield found
    finally:
        await found.close()


async def test_every_proxy_gets_the_snapshot_and_then_deltas(authority, files):
    methods = []

    async def note(request):
        methods.append(request.method)

    changes = []
    async with (
        serve(files, name="a", before=note) as a,
        serve(files, name="b") as b,
        publisher(authority, changed=lambda: changes.append(1)) as push,
    ):
        push.target({"a": a.address, "b": b.address})
        first = snapshot()
        push.publish(first)
        await until(lambda: all(p.acked == first.version for p in push.proxies.values()))
        second = with_pods(first, 5)
        push.publish(second)
        await until(lambda: all(p.acked == second.version for p in push.proxies.values()))
        assert a.receiver.snapshot == b.receiver.snapshot == second
        assert [m for m in methods if m != "GET"] == ["PUT", "PATCH"]
        assert changes
        assert {p.version for p in push.proxies.values()} == {"1.2.3"}
        assert sample(push, "count") == 4


async def test_a_defect_is_logged_and_ends_no_channel(authority, files, caplog):
    async with serve(files, name="a") as a, publisher(authority) as push:
        context, faults = push.tls(), ["first", "second"]

        def tls():
            if faults:
                raise RuntimeError(f"{faults.pop()} fault")
            return context

        push.tls = tls
        push.target({"a": a.address})
        push.publish(snapshot())
        await until(lambda: push.proxies["a"].acked == snapshot().version)
    assert "first fault" in caplog.text
    assert "proxy a" in caplog.text


def sample(push, suffix):
    return next(s.value for m in push.latency.collect() for s in m.samples if s.name.endswith(suffix))


@pytest.fixture
def frozen():
    """An address that takes connections but never answers, as a stopped process does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield ProxyAddress("127.0.0.1", listener.getsockname()[1])


async def test_a_slow_proxy_delays_no_other(authority, files, frozen):
    held = asyncio.Event()

    async def hold(_request):
        await held.wait()

    async with (
        serve(files, name="slow", before=hold) as slow,
        serve(files, name="quick") as quick,
        publisher(authority) as push,
    ):
        push.target(
            {
                "slow": slow.address,
                "frozen": frozen,
                "refusing": ProxyAddress("127.0.0.1", 1),
                "quick": quick.address,
            }
        )
        wanted = snapshot()
        times = []
        push.publish(wanted)
        for _ in range(20):
            began = time.perf_counter()
            await until(lambda version=wanted.version: push.proxies["quick"].acked == version)
            times.append(time.perf_counter() - began)
            wanted = with_pods(wanted, 1 + wanted.revision % 5)
            push.publish(wanted)
        print(f"push to the quick one beside three dead ones: at most {max(times[1:]) * 1000:.1f} ms")
        assert push.proxies["slow"].acked is None
        assert max(times) < 2
        held.set()
        await until(lambda: push.proxies["slow"].acked == wanted.version)
        assert len(slow.used) == 1, "only the latest is sent"
        await until(lambda: push.proxies["refusing"].error)


async def test_a_proxy_that_lost_its_snapshot_is_told_again(authority, files):
    async with publisher(authority, probe=0.05) as push:
        async with serve(files) as first:
            push.target({"p": first.address})
            push.publish(wanted := snapshot())
            await until(lambda: push.proxies["p"].acked == wanted.version)
            port = first.address.port
        async with serve(files, port=port) as again:
            await until(lambda: again.receiver.snapshot == wanted)
            await until(lambda: push.proxies["p"].acked == wanted.version and not push.proxies["p"].error)


async def test_a_proxy_that_restarts_with_its_snapshot_gets_no_second_one(authority, files):
    async with publisher(authority, probe=0.05) as push:
        async with serve(files) as first:
            push.target({"p": first.address})
            push.publish(wanted := snapshot())
            await until(lambda: push.proxies["p"].acked == wanted.version)
            port = first.address.port
        methods = []

        async def note(request):
            methods.append(request.method)

        async with serve(files, port=port, before=note) as again:
            await again.receiver.restore(wanted)
            push.publish(after := with_pods(wanted, 1))
            await until(lambda: again.receiver.snapshot == after)
            assert "PUT" not in methods


async def test_a_lost_base_is_mended_with_the_whole(authority, files):
    async with serve(files) as served, publisher(authority, probe=60) as push:
        push.target({"p": served.address})
        push.publish(first := snapshot())
        await until(lambda: push.proxies["p"].acked == first.version)
        served.receiver.snapshot = None
        push.publish(second := with_pods(first, 1))
        await until(lambda: push.proxies["p"].acked == second.version)
        assert served.receiver.snapshot == second


async def test_an_invalid_snapshot_shows_until_the_next(authority, files):
    asked = []

    def use(new):
        asked.append(new.revision)
        if new.revision == 1:
            raise ValueError("route shop/route-0, rule app: bad")

    async with serve(files, use=use) as served, publisher(authority, probe=0.02) as push:
        push.target({"p": served.address})
        push.publish(first := snapshot())
        await until(lambda: push.proxies["p"].error)
        assert "route shop/route-0" in push.proxies["p"].error
        await asyncio.sleep(0.1)
        assert asked == [1], "it is not sent again"
        assert "route shop/route-0" in push.proxies["p"].error
        push.publish(second := with_pods(first, 1))
        await until(lambda: push.proxies["p"].acked == second.version)
        assert push.proxies["p"].error is None


@pytest.mark.parametrize(
    "held", [snapshot(epoch=9), snapshot(pods=1), snapshot(revision=5)], ids=["epoch", "content", "revision"]
)
async def test_another_operators_snapshot_calls_for_a_higher_epoch(authority, files, held):
    met = []
    async with (
        serve(files) as served,
        publisher(authority, on_higher_epoch=met.append) as push,
    ):
        await served.receiver.restore(held)
        push.target({"p": served.address})
        push.publish(snapshot())
        await until(lambda: met)
        assert met[0] == held.epoch
        assert push.proxies["p"].acked is None
        assert "higher epoch" in push.proxies["p"].error
        push.publish(mended := snapshot(epoch=held.epoch + 1))
        await until(lambda: push.proxies["p"].acked == mended.version)
        assert served.receiver.snapshot == mended


async def test_renewed_certificates_are_used_for_new_connections(authority, files):
    other = Authority()
    context = authority.context()
    push = Publisher(authority.fleet, lambda: context, lambda: None, probe=0.05)
    try:
        async with serve(files) as served:
            push.target({"p": served.address})
            push.publish(first := snapshot())
            await until(lambda: push.proxies["p"].acked == first.version)
            other.write(files)
            await served.site.start()
            context = other.context()
            push.publish(second := with_pods(first, 1))
            await until(lambda: push.proxies["p"].acked == second.version)
    finally:
        await push.close()


async def test_targets_come_and_go(authority, files):
    async with serve(files) as one, serve(files) as two, publisher(authority) as push:
        push.publish(wanted := snapshot())
        push.target({"one": one.address})
        await until(lambda: push.proxies["one"].acked == wanted.version)
        push.target({"two": two.address})
        assert set(push.proxies) == {"two"}
        await until(lambda: push.proxies["two"].acked == wanted.version)
        push.target({"two": ProxyAddress(two.address.host, two.address.port, ready=False)})
        assert (push.proxies["two"].ready, push.proxies["two"].acked) == (False, wanted.version)
        push.target({})
        assert push.proxies == {}


async def test_a_program_that_is_no_proxy_is_named(authority, files):
    async with serve(files, fleet="other") as served, publisher(authority) as push:
        push.target({"p": served.address})
        push.publish(snapshot())
        await until(lambda: push.proxies["p"].error)
        assert "client certificate with the URI" in push.proxies["p"].error


async def test_versions_only_rise(authority):
    async with publisher(authority) as push:
        push.publish(snapshot(revision=2))
        with pytest.raises(ValueError, match=r"1\.2 does not follow 1\.2"):
            push.publish(snapshot(revision=2))
        assert push.wanted.version == Version(1, 2)


async def test_a_timeout_is_told(authority, frozen):
    async with publisher(authority, timeout=aiohttp.ClientTimeout(total=0.1)) as push:
        push.target({"p": frozen})
        push.publish(snapshot())
        await until(lambda: push.proxies["p"].error)
        assert push.proxies["p"].error == "no answer in time"
