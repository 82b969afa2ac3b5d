"""The collector against real control ports: reports merge, and nobody waits for a dead proxy."""

import contextlib
import socket
from random import Random

from tests.component.control.support import serve
from tests.waiting import until

from stickyroute_api.affinity import AffinityReport, EndpointSessions, ScopeReport
from stickyroute_operator.publish import ProxyAddress
from stickyroute_operator.report import Collector

SCOPE = "shop/route/web"


def told(new, active, started=1.0):
    """A report that says so many new and active sessions."""
    on = EndpointSessions(endpoint="uid", pod="web-0", service="web", active=active, in_flight=0)
    return AffinityReport(
        proxy="whatever it calls itself",
        started=started,
        epoch=1,
        revision=1,
        scopes={SCOPE: ScopeReport(new=new, endpoints=(on,))},
    )


@contextlib.asynccontextmanager
async def collector(authority, changed=lambda: None, **more):
    context = authority.context()
    more = {"busy": 0.01, "quiet": 0.01} | more
    found = Collector(lambda: context, changed, random=Random(1), **more)
    try:
        yield found
    finally:
        await found.close()


async def test_a_defect_is_logged_and_ends_no_pull(authority, files, caplog):
    async with serve(files, name="a", report=lambda: told(1, 1)) as one, collector(authority) as found:
        context, faults = found.tls(), ["a fault"]

        def tls():
            if faults:
                raise RuntimeError(faults.pop())
            return context

        found.tls = tls
        found.target({"a": one.address})
        await until(lambda: found.ledger.running)
    assert "a fault" in caplog.text


def totals(found):
    view = found.view().get(SCOPE)
    return (view.totals.new, view.active) if view else None


async def test_reports_of_all_proxies_merge_and_dead_ones_are_passed_over(authority, files):
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        async with (
            serve(files, report=lambda: told(3, 2)) as a,
            serve(files, report=lambda: told(4, 1)) as b,
            serve(files) as empty,
            collector(authority) as found,
        ):
            found.target(
                {
                    "frozen": ProxyAddress("127.0.0.1", frozen.getsockname()[1]),
                    "refusing": ProxyAddress("127.0.0.1", 1),
                    "empty": empty.address,
                    "a": a.address,
                    "b": b.address,
                }
            )
            await until(lambda: totals(found) == (7, 3))


async def test_totals_outlive_a_proxy_and_its_restart(authority, files):
    now = told(3, 2)
    changes = []
    async with (
        serve(files, report=lambda: now) as a,
        collector(authority, lambda: changes.append(1)) as found,
    ):
        found.target({"a": a.address})
        await until(lambda: totals(found) == (3, 2))
        before = len(changes)
        now = told(1, 1, started=2.0)
        await until(lambda: totals(found) == (4, 1))
        assert len(changes) == before + 1, "only what differs is told"
        found.target({})
        assert totals(found) == (4, 0)


async def test_a_poke_asks_at_once(authority, files):
    now = told(1, 1)
    async with serve(files, report=lambda: now) as a, collector(authority, busy=60, quiet=60) as found:
        found.target({"a": a.address})
        await until(lambda: totals(found) == (1, 1))
        now = told(2, 1)
        found.poke()
        await until(lambda: totals(found) == (2, 1))


async def test_a_moved_proxy_is_followed(authority, files):
    async with (
        serve(files, report=lambda: told(1, 1)) as before,
        serve(files, report=lambda: told(5, 1, started=2.0)) as after,
        collector(authority) as found,
    ):
        found.target({"p": before.address})
        await until(lambda: totals(found) == (1, 1))
        found.target({"p": after.address})
        await until(lambda: totals(found) == (6, 1))
