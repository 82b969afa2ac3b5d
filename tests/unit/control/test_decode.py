"""Reading piece by piece takes and refuses what reading the whole at once does."""

import json
from operator import is_, itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.component.control.support import snapshot, with_pods
from tests.unit.control.test_receive import contents, encoded, series

from stickyroute_api.snapshot import Snapshot
from stickyroute_proxy.decode import decoded
from stickyroute_proxy.receive import explain
from stickyroute_proxy.slices import at_once


@given(st.lists(contents, min_size=2, max_size=2))
def test_it_is_the_snapshot_and_keeps_what_is_the_same(found):
    held, new = series(found)
    read = at_once(decoded(encoded(new), held))
    assert read == new
    for key, route in read.routes.items():
        assert (route is held.routes.get(key)) is (route == held.routes.get(key))
    for key, endpoints in read.endpoints.items():
        if endpoints == (before := held.endpoints.get(key)):
            assert all(map(is_, endpoints, before))


def broken():
    """Bodies with one thing wrong, by what it is."""
    whole = json.loads(encoded(snapshot(routes=3)))
    (key, route), *_ = whole["routes"].items()
    (set_id, endpoints), *_ = whole["endpoints"].items()
    yield "nothing", b""
    yield "half", encoded(snapshot())[:-9]
    yield "no text", b'{"fleet": "\xff"}'
    for name, value in (("list", []), ("number", 7), ("null", None)):
        yield name, value
        yield f"routes: {name}", whole | {"routes": value}
        yield f"a route: {name}", whole | {"routes": {key: value}}
        yield f"endpoints: {name}", whole | {"endpoints": {"a/b:1": value} if value == 7 else value}
        yield f"keys: {name}", whole | {"keys": value}
    yield "a route's field", whole | {"routes": whole["routes"] | {key: route | {"created": "soon"}}}
    yield "a route's unknown field", whole | {"routes": {key: route | {"colour": "red"}}}
    yield "a pod's field", whole | {"endpoints": {set_id: [*endpoints, endpoints[0] | {"port": "eighty"}]}}
    yield "another format", whole | {"format": 0}
    yield "no fleet", {name: value for name, value in whole.items() if name != "fleet"}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in broken()])
def test_refusals_read_the_same(body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = []
    for read in (Snapshot.model_validate_json, lambda body: at_once(decoded(body, snapshot()))):
        try:
            told.append(read(body))
        except ValidationError as error:
            told.append((explain(error), list(map(itemgetter("type", "loc"), error.errors()))))
    assert told[0] == told[1]


def test_each_piece_may_be_followed_by_a_turn_of_the_loop():
    held = snapshot(routes=50)
    assert sum(1 for _ in decoded(encoded(with_pods(held, 5)), held)) >= 100
