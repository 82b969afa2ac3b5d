from datetime import UTC, datetime

import pytest
from tests.unit.operator.builders import route

from stickyroute_api.reasons import EventReason
from stickyroute_operator.cluster import CONFLICT, NOT_FOUND, ApiError
from stickyroute_operator.events import Event
from stickyroute_operator.journal import Journal, event_name

DROPPED = Event(EventReason.BINDINGS_DROPPED, "31 sessions left web-2: PodTerminated", "Normal")


class Objects:
    def __init__(self):
        self.stored = {}
        self.fail = 0

    async def create(self, resource, manifest):
        if self.fail:
            raise ApiError("no", self.fail)
        name = manifest["metadata"]["name"]
        if name in self.stored:
            raise ApiError("exists", CONFLICT)
        self.stored[name] = dict(manifest)

    async def patch(self, resource, namespace, name, body, *, part=""):
        if name not in self.stored:
            raise ApiError("none", NOT_FOUND)
        self.stored[name] |= body
        return self.stored[name]


@pytest.fixture
def objects():
    return Objects()


def journal(objects):
    return Journal(objects, "operator-0", lambda: datetime(2026, 11, 23, tzinfo=UTC))


async def test_one_object_is_counted_up(objects):
    keeper = journal(objects)
    for _ in range(3):
        await keeper.write(route(), DROPPED)
    (only,) = objects.stored.values()
    assert (only["count"], only["message"]) == (3, DROPPED.message)
    assert only["involvedObject"]["uid"] == "uid-shop"
    assert only["source"] == {"component": "stickyroute-operator"}


async def test_the_first_counts_as_many_as_it_tells_of(objects):
    keeper, ejected = journal(objects), Event(EventReason.POD_EJECTED, "two pods", "Warning", times=2)
    for count in (2, 4):
        await keeper.write(route(), ejected)
        assert [one["count"] for one in objects.stored.values()] == [count]


async def test_a_message_that_is_set_right_counts_nothing(objects):
    keeper = journal(objects)
    await keeper.write(route(), DROPPED)
    await keeper.write(route(), Event(DROPPED.reason, "32 sessions", "Normal", times=0))
    (only,) = objects.stored.values()
    assert (only["count"], only["message"]) == (1, "32 sessions")


async def test_a_new_operator_goes_on_counting(objects):
    await journal(objects).write(route(), DROPPED)
    await journal(objects).write(route(), DROPPED)
    (only,) = objects.stored.values()
    assert only["count"] == 2


async def test_an_event_that_has_ended_begins_anew(objects):
    keeper = journal(objects)
    await keeper.write(route(), DROPPED)
    await keeper.write(route(), DROPPED)
    objects.stored.clear()
    await keeper.write(route(), DROPPED)
    (only,) = objects.stored.values()
    assert only["count"] == 1


async def test_a_failure_is_logged_and_no_more(objects, caplog):
    objects.fail = 403
    await journal(objects).write(route(), DROPPED)
    assert "Event BindingsDropped on StickyRoute default/shop" in caplog.text


def test_names_are_of_the_very_object_and_reason():
    names = {
        event_name(route(), DROPPED),
        event_name(route("other"), DROPPED),
        event_name(route(), Event(EventReason.PROGRAMMED, "", "Normal")),
    }
    assert len(names) == 3
    assert event_name(route(), DROPPED) == event_name(route(), DROPPED)
    assert len(event_name(route("x" * 253), DROPPED)) <= 253


async def test_long_messages_are_cut(objects):
    await journal(objects).write(route(), Event(DROPPED.reason, "x" * 5000, "Normal"))
    (only,) = objects.stored.values()
    assert len(only["message"]) <= 1024
