"""Rotations with real control ports: at each moment every proxy opens what any other seals."""

import asyncio
import base64
import contextlib
import json

from tests.component.operator.test_operator import condition, fill
from tests.waiting import until

from stickyroute_operator.keys import COMMAND
from stickyroute_proxy.affinity.token import Binding, Keyring

SCOPE = b"default/shop/web"
BINDING = Binding(b"s" * 12, b"e" * 12, 1.0, 1.0, 1.0, 0, 0, 0)
NAME = "sr-token-keys"


def order(api):
    secret = api.get("secrets", NAME, "system")
    meta = {**secret["metadata"], "annotations": {COMMAND: "now"}}
    api.put("secrets", {**secret, "metadata": meta})


def stored(api):
    """{number: whether it has sealed} of the Secret."""
    content = base64.b64decode(api.get("secrets", NAME, "system")["data"]["keys.json"])
    return {entry["id"]: "seals_from" in entry for entry in json.loads(content)}


class Traffic:
    """Sessions through all proxies: each keeps the token that it got last, and shows it to every proxy."""

    def __init__(self, running):
        self.running = running
        self.tokens = {}
        self.lost = []
        self.turns = 0

    def rings(self):
        return {name: Keyring(proxy.receiver.snapshot.keys) for name, proxy in self.running.items()}

    async def run(self):
        while True:
            rings = self.rings()
            for name, ring in rings.items():
                self.tokens[ring.sealing, name] = ring.seal(BINDING, SCOPE)
            for place, token in self.tokens.items():
                for name, ring in rings.items():
                    if not isinstance(ring.open(token, SCOPE), Binding):
                        self.lost.append((place, name))
            self.turns += 1
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def traffic(running):
    moving = Traffic(running)
    task = asyncio.create_task(moving.run())
    try:
        yield moving
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert moving.lost == []


def sealing(running):
    return {proxy.receiver.snapshot.keys.sealing for proxy in running.values()}


async def test_an_ordered_rotation_loses_no_session(api, start, proxies, caplog):
    caplog.set_level("INFO")
    fill(api)
    async with start(), proxies("proxy-0", "proxy-1", "proxy-2") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        async with traffic(running) as moving:
            for number in (2, 3):
                order(api)
                await until(lambda number=number: sealing(running) == {number})
                assert stored(api) == dict.fromkeys(range(1, number + 1), True)
                assert not api.get("secrets", NAME, "system")["metadata"].get("annotations")
            assert moving.turns > 10
        texts = base64.b64decode(api.get("secrets", NAME, "system")["data"]["keys.json"]).decode()
        assert not [entry["key"] for entry in json.loads(texts) if entry["key"] in caplog.text]
    assert "token key 3 seals from now on, key 2 still opens" in caplog.text


async def test_a_slow_proxy_holds_the_new_key_back_and_an_operator_that_ends_meanwhile_does_not(
    api, start, proxies
):
    fill(api)
    gate = asyncio.Event()
    gate.set()

    async def before(request):
        if request.method in {"PATCH", "PUT"}:
            await gate.wait()

    async with contextlib.AsyncExitStack() as stack:
        async with start():
            quick = await stack.enter_async_context(proxies("proxy-0"))
            slow = await stack.enter_async_context(proxies("proxy-1", before=before))
            running = quick | slow
            await until(lambda: condition(api, "Ready").get("status") == "True")
            moving = await stack.enter_async_context(traffic(running))
            gate.clear()
            order(api)
            await until(lambda: set(running["proxy-0"].receiver.snapshot.keys.keys) == {1, 2})
            await asyncio.sleep(0.3)
            assert stored(api) == {1: True, 2: False}
            assert sealing(running) == {1}
        async with start(instance="operator-1"):
            await until(lambda: running["proxy-0"].receiver.version.epoch == 2)
            await asyncio.sleep(0.3)
            assert (stored(api), sealing(running)) == ({1: True, 2: False}, {1})
            gate.set()
            await until(lambda: sealing(running) == {2})
            assert stored(api) == {1: True, 2: True}
        assert moving.turns > 10


async def test_a_rotation_that_another_operator_wrote_is_taken_over(api, start, proxies):
    fill(api)
    async with start(), proxies("proxy-0") as running:
        await until(lambda: condition(api, "Ready").get("status") == "True")
        secret = api.get("secrets", NAME, "system")
        content = json.loads(base64.b64decode(secret["data"]["keys.json"]))
        content.append({"id": 9, "key": content[0]["key"], "created": "2030-01-01T00:00:00Z"})
        encoded = base64.b64encode(json.dumps(content).encode()).decode()
        api.put("secrets", {**secret, "data": {**secret["data"], "keys.json": encoded}})
        await until(lambda: sealing(running) == {9})
        assert stored(api) == {1: True, 9: True}


async def test_keys_rotate_by_time(api, start, proxies):
    from datetime import timedelta

    fill(api)
    async with start(rotate_every=timedelta(seconds=1)), proxies("proxy-0") as running:
        await until(lambda: sealing_or_none(running) == {3})


def sealing_or_none(running):
    return {proxy.receiver.snapshot and proxy.receiver.snapshot.keys.sealing for proxy in running.values()}
