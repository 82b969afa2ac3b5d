"""Whatever the sequence of pushes, a proxy ends with the newest snapshot and never goes back."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Delta, Endpoint, Route, Snapshot, TokenKeys, Version
from stickyroute_proxy.receive import MAX_PROBLEMS, InvalidError, Receiver, RefusedError

endpoints = st.lists(
    st.builds(
        Endpoint, id=st.sampled_from("abcd"), pod=st.just("p"), address=st.just("10.0.0.1"), port=st.just(80)
    ),
    max_size=3,
    unique_by=lambda endpoint: endpoint.id,
).map(tuple)
routes = st.builds(
    Route,
    namespace=st.just("n"),
    name=st.sampled_from("xyz"),
    created=st.sampled_from((1.0, 2.0)),
    rules=st.just(()),
)
contents = st.fixed_dictionaries(
    {
        "settings": st.sampled_from((Settings(), Settings(trusted_proxies=("10.0.0.0/8",)))),
        "keys": st.sampled_from(
            (TokenKeys(sealing=1, keys={1: "a"}), TokenKeys(sealing=2, keys={1: "a", 2: "b"}))
        ),
        "routes": st.dictionaries(st.sampled_from("xyz"), routes, max_size=3),
        "endpoints": st.dictionaries(st.sampled_from(("s", "t", "u")), endpoints, max_size=3),
    }
)
EMPTY = {"keys": TokenKeys(sealing=1, keys={}), "routes": {}, "endpoints": {}}


def series(found):
    """Snapshots with these contents, one revision after another."""
    return [
        Snapshot(fleet="f", epoch=1, revision=number, **content)
        for number, content in enumerate(found, start=1)
    ]


def encoded(model):
    return model.model_dump_json().encode()


async def anything(_new, _delta):
    """Take every snapshot."""


def receiver(use=anything):
    return Receiver(fleet="f", use=use, keeper=SimpleNamespace(save=lambda _new: None))


@given(st.lists(contents, min_size=1, max_size=6), st.data())
async def test_deltas_and_wholes_end_in_the_same_state(found, data):
    """The operator skips what is outdated, and may send each step either way, or twice."""
    snapshots = series(found)
    proxy = receiver()
    held = None
    for wanted in snapshots:
        if wanted is not snapshots[-1] and data.draw(st.booleans(), label="skipped"):
            continue
        whole = held is None or data.draw(st.booleans(), label="whole")
        for _ in range(data.draw(st.integers(1, 2), label="times")):
            if whole:
                await proxy.put(encoded(wanted))
            else:
                await proxy.patch(encoded(Delta.between(held, wanted)))
        held = wanted
        assert proxy.snapshot == wanted
    assert proxy.snapshot == snapshots[-1]


@given(st.lists(contents, min_size=2, max_size=4), st.lists(st.integers(0, 11), max_size=12))
async def test_any_order_of_arrival_never_goes_back(found, order):
    snapshots = series(found)
    proxy = receiver()
    newest = Version(0, 0)
    for number in order:
        to = snapshots[number % len(snapshots)]
        before = proxy.snapshot
        try:
            if number < 6:
                await proxy.put(encoded(to))
            else:
                await proxy.patch(encoded(Delta.between(snapshots[0], to)))
        except RefusedError:
            assert proxy.snapshot is before
        else:
            assert proxy.snapshot == to
        if proxy.version is not None:
            assert proxy.version >= newest
            newest = proxy.version


@given(contents)
async def test_what_did_not_change_stays_the_same_object(content):
    """A new operator sends the whole under a higher epoch: the proxy's table sees that nothing changed."""
    (first,) = series([content])
    proxy = receiver()
    await proxy.put(encoded(first))
    before = proxy.snapshot
    await proxy.put(encoded(first.model_copy(update={"epoch": 2})))
    assert proxy.version == Version(2, 1)
    assert proxy.snapshot.routes is before.routes
    assert proxy.snapshot.endpoints is before.endpoints


async def test_what_cannot_be_used_is_counted_and_not_kept():
    kept = []

    async def use(new, _delta):
        raise ValueError(f"cannot serve {new.version}")

    proxy = Receiver(fleet="f", use=use, keeper=SimpleNamespace(save=kept.append))
    with pytest.raises(InvalidError, match=r"cannot serve 1\.1"):
        await proxy.put(encoded(series([EMPTY])[0]))
    assert (kept, proxy.snapshot, proxy.pushes, proxy.refusals) == ([], None, 0, 1)


async def test_a_refusal_tells_a_few_problems_only():
    body = series([EMPTY])[0].model_dump(mode="json")
    body["endpoints"] = {f"s{number}": [{"port": -1}] for number in range(20)}
    with pytest.raises(InvalidError) as refused:
        await receiver().put(json.dumps(body).encode())
    assert str(refused.value).count(";") == MAX_PROBLEMS
    assert str(refused.value).endswith("more")
