"""First come, first served."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from stickyroute_proxy.wire.queue import Queue


@dataclass(eq=False)
class Request:
    room: int


def test_in_order_and_only_into_room():
    queue = Queue()
    one, two, three = requests = [Request(2), Request(2), Request(9)]
    for request in requests:
        queue.join(request)
    assert queue.pop(2) is None
    assert queue.pop(1) is one
    # Nobody overtakes, not even one for whom there is room.
    assert queue.pop(5) is None
    queue.leave(two)
    assert queue.pop(5) is three
    assert queue.pop(0) is None
    assert not queue


def test_room_is_what_it_is_when_it_is_asked_for():
    queue = Queue()
    request = Request(1)
    queue.join(request)
    assert queue.pop(1) is None
    request.room = 2
    assert queue.pop(1) is request


@given(st.lists(st.sampled_from(("join", "pop", "leave", "clear")), max_size=60), st.randoms())
def test_it_is_a_list_but_quick(steps, random):
    queue, model = Queue(), []
    for step in steps:
        if step == "join":
            request = Request(1)
            queue.join(request)
            model.append(request)
        elif step == "pop":
            assert queue.pop(0) is (model.pop(0) if model else None)
        elif step == "clear":
            assert queue.clear() == model
            model.clear()
        elif model:
            gone = random.choice(model)
            queue.leave(gone)
            model.remove(gone)
        assert len(queue) == len(model)
