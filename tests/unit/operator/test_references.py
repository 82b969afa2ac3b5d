"""Which Secrets and ConfigMaps are read, when, and what becomes of failures."""

import asyncio
import contextlib

import pytest

from stickyroute_operator import references
from stickyroute_operator.cluster import ApiError
from stickyroute_operator.objects import ABSENT, ConfigMap, Reference
from stickyroute_operator.references import References

CA, OTHER = Reference("ConfigMap", "shop", "ca"), Reference("ConfigMap", "blog", "ca")


class Api:
    """ConfigMaps by namespace: the text of `ca.crt`, or the error to answer with."""

    def __init__(self, **content):
        self.content = content
        self.reads = []
        self.version = 1
        self.running = self.most = 0

    async def read(self, resource, namespace, name):
        assert resource.plural == "configmaps"
        self.reads.append((namespace, name))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        content = self.content.get(namespace, ApiError("not found", 404))
        if isinstance(content, ApiError):
            raise content
        return {"metadata": {"resourceVersion": str(self.version)}, "data": {"ca.crt": content}}


class Reader:
    """References on a clock of the test's own."""

    def __init__(self, api):
        self.now, self.changes = 0.0, 0
        self.api = api
        self.it = References(api, self._changed, clock=lambda: self.now, random=lambda: 0.0)

    def _changed(self):
        self.changes += 1

    async def at(self, now):
        """What is due by then is done."""
        self.now = now
        self.it._poked.set()
        for _ in range(40):
            await asyncio.sleep(0)
        return self.it.referents.get(CA)


@contextlib.asynccontextmanager
async def reading(api):
    reader = Reader(api)
    task = asyncio.create_task(reader.it.run())
    try:
        yield reader
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_is_named_is_read_at_once_and_again_within_the_interval():
    api = Api(shop="a")
    async with reading(api) as reader:
        assert await reader.at(0) is None
        assert api.reads == []
        reader.it.want({CA})
        assert await reader.at(1) == ConfigMap("a")
        assert reader.changes == 1
        reader.it.want({CA})
        await reader.at(references.INTERVAL)
        assert len(api.reads) == 1
        api.content["shop"], api.version = "b", 2
        assert await reader.at(references.INTERVAL + 1) == ConfigMap("b")
        assert reader.changes == 2
    assert references.INTERVAL * 2 < 60


async def test_what_did_not_change_is_no_news():
    api = Api(shop="a")
    async with reading(api) as reader:
        reader.it.want({CA})
        first = await reader.at(0)
        assert await reader.at(30) is first
        api.version = 2  # something else in it changed
        assert await reader.at(60) is first
        assert reader.changes == 1
        assert len(api.reads) == 3


async def test_what_is_named_no_more_is_forgotten():
    api = Api(shop="a", blog="b")
    async with reading(api) as reader:
        reader.it.want({CA, OTHER})
        await reader.at(0)
        reader.it.want({OTHER})
        assert set(reader.it.referents) == {OTHER}
        await reader.at(100)
        assert api.reads.count(("shop", "ca")) == 1
        reader.it.want({CA, OTHER})
        assert await reader.at(101) == ConfigMap("a")


async def test_it_is_gone_when_the_api_says_so():
    api = Api(shop="a")
    async with reading(api) as reader:
        reader.it.want({CA})
        await reader.at(0)
        del api.content["shop"]
        assert await reader.at(30) == ABSENT
        api.content["shop"] = "a"
        assert await reader.at(60) == ConfigMap("a")


async def test_what_is_absent_at_first_is_looked_for_soon_and_ever_more_seldom():
    api = Api()
    async with reading(api) as reader:
        reader.it.want({CA})
        assert await reader.at(0) == ABSENT
        assert await reader.at(1.1) == ABSENT
        assert len(api.reads) == 2
        for second in range(2, 1000):
            await reader.at(second)
        assert len(api.reads) < 75
        api.content["shop"] = "a"
        assert await reader.at(1000 + references.INTERVAL) == ConfigMap("a")


@pytest.mark.parametrize("status", [0, 401, 403, 500])
async def test_one_that_cannot_be_read_keeps_what_was_read_last(status, caplog):
    api = Api(shop="a")
    async with reading(api) as reader:
        reader.it.want({CA})
        await reader.at(0)
        api.content["shop"] = ApiError("no", status)
        for second in range(30, 300, 10):
            assert await reader.at(second) == ConfigMap("a")
        assert caplog.text.count("ConfigMap shop/ca") == 1
        api.content["shop"], api.version = "b", 2
        assert await reader.at(320) == ConfigMap("b")


@pytest.mark.parametrize(
    ("status", "patience", "says"), [(500, 30.0, "cannot be read"), (403, 3.0, "may not be read")]
)
async def test_one_that_was_never_read_is_tried_for_a_while_before_it_is_told(status, patience, says):
    api = Api(shop=ApiError("no", status))
    async with reading(api) as reader:
        reader.it.want({CA})
        for second in range(int(patience)):
            assert await reader.at(second) is None
        found = await reader.at(patience + 1)
        assert says in found.why
        api.content["shop"] = "a"
        assert await reader.at(patience + 2 + references.INTERVAL) == ConfigMap("a")


async def test_one_that_is_being_read_is_not_read_again():
    class Slow(Api):
        async def read(self, resource, namespace, name):
            self.reads.append(name)
            await asyncio.Event().wait()

    api = Slow()
    async with reading(api) as reader:
        reader.it.want({CA})
        await reader.at(0)
        await reader.at(1000)
        assert api.reads == ["ca"]


async def test_few_are_read_at_one_time():
    names = [f"n{number}" for number in range(100)]
    api = Api(**dict.fromkeys(names, "a"))
    async with reading(api) as reader:
        reader.it.want({Reference("ConfigMap", name, "ca") for name in names})
        for _ in range(10):
            await reader.at(1)
        assert len(reader.it.referents) == 100
    assert api.most <= references.READERS
