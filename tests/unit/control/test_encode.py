"""The piecewise encoding is the snapshot, and costs what has changed."""

import asyncio
import itertools
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from tests.component.control.support import snapshot, with_pods
from tests.unit.control.test_receive import contents, series

from stickyroute_api.snapshot import Snapshot
from stickyroute_proxy import encode, slices
from stickyroute_proxy.encode import Encoder


@given(st.lists(contents, min_size=1, max_size=5))
def test_every_snapshot_of_a_series_decodes_to_itself(found):
    async def texts():
        encoder = Encoder()
        return [await encoder.encode(one) for one in series(found)]

    assert [Snapshot.model_validate_json(text) for text in asyncio.run(texts())] == series(found)


async def test_two_at_a_time_do_not_mix(monkeypatch):
    monkeypatch.setattr(slices, "SLICE", 0.0)  # a turn of the loop after each piece
    first, second = snapshot(routes=5), snapshot(revision=2, routes=5, pods=1)
    encoder = Encoder()
    texts = await asyncio.gather(encoder.encode(first), encoder.encode(second), encoder.encode(first))
    assert [Snapshot.model_validate_json(text) for text in texts] == [first, second, first]


async def test_only_what_changed_is_encoded_again(monkeypatch):
    encoded = []
    dump = encode._ENDPOINTS.dump_json

    def count(given):
        encoded.append(given)
        return dump(given)

    monkeypatch.setattr(encode, "_ENDPOINTS", SimpleNamespace(dump_json=count))
    encoder = Encoder()
    first = snapshot(routes=20)
    await encoder.encode(first)
    assert len(encoded) == 20
    await encoder.encode(with_pods(first, 5))
    assert len(encoded) == 21


async def test_the_loop_gets_its_turns(monkeypatch):
    """With a clock on which each piece takes a second, each is followed by a turn of the loop."""
    monkeypatch.setattr(slices, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await Encoder().encode(snapshot(routes=20))
    counting.cancel()
    assert turns >= 40
