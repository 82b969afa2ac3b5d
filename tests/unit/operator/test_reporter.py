import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from tests.unit.operator.builders import endpoint, pieces, route, service, state

from stickyroute_api.snapshot import Version
from stickyroute_operator.cluster import CONFLICT, NOT_FOUND, ApiError
from stickyroute_operator.reconcile import Acked, Carried
from stickyroute_operator.reporter import Fleet, Reporter
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
    async def write(self, route, event):
        pass


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def reporter(api):
    translation = translate(state(route(), service(), pieces(endpoint("web-1", "10.0.0.1"))))
    reconciler = SimpleNamespace(
        translation=translation,
        carried=dict.fromkeys(translation.verdicts, Carried(V1, V1)),
        version=V1,
        published_at=0.0,
        starting_until=0.0,
    )
    fleet = Fleet(proxies=(Acked("proxy-0", True, V1),))
    return Reporter(api, Journal(), reconciler, lambda: fleet, clock=lambda: 100.0, now=lambda: NOW)


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
