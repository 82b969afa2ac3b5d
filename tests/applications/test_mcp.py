"""An MCP server with sessions over streamable HTTP: the mcp package's server and its own client."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from mcp import Client, MCPError

NOTEBOOK = "mcp/notebook.yaml"
LOST = "a session came from another pod: PodTerminated"


class Writer:
    """A client with a session, and what came by its event streams."""

    def __init__(self, url):
        self.progress, self.news = [], asyncio.Queue()
        self.client = Client(f"{url}/mcp", mode="legacy", message_handler=self._take)

    async def _take(self, message):
        self.news.put_nowait(message.method)

    async def note(self, text):
        """The answer, apart from who gave it, and who that was."""
        result = await self.client.call_tool("note", {"text": text})
        assert not result.is_error, result
        pod, _, answer = result.content[0].text.partition(" ")
        return pod, answer

    async def read(self):
        async def progress(*told):
            self.progress.append(told)

        result = await self.client.call_tool("read", progress_callback=progress)
        return result.structured_content["result"]


@asynccontextmanager
async def writer(url):
    made = Writer(url)
    async with made.client:
        yield made


async def write(name, url):
    """All that a client is told in one session; and by which pods."""
    async with writer(url) as one:
        told, pods = [one.client.protocol_version, one.client.server_info.name], set()
        told.append([tool.name for tool in (await one.client.list_tools()).tools])
        for number in range(10):
            pod, answer = await one.note(f"{name} {number}")
            told.append((answer, await asyncio.wait_for(one.news.get(), 10)))
            pods.add(pod)
        told.append((await one.read(), one.progress))
        return told, pods


async def test_it_works_as_with_one_pod(fleet):
    async with fleet(NOTEBOOK) as (_, front, alone):

        async def all_write(url):
            return await asyncio.gather(*(write(f"writer {number}", url) for number in range(6)))

        direct, proxied = await all_write(alone.url), await all_write(front.url)
        assert [told for told, _ in proxied] == [told for told, _ in direct]
        assert all(len(pods) == 1 for _, pods in proxied)
        assert len(set().union(*(pods for _, pods in proxied))) > 1


async def test_a_deleted_pods_client_begins_anew_at_one_other(fleet):
    async with fleet(NOTEBOOK) as (pods, front, _):
        async with writer(front.url) as one:
            first, answer = await one.note("before")
            assert answer == "keeps 1"
            await pods.delete(first)
            with pytest.raises(MCPError, match="Session not found"):
                await one.note("lost")
        async with writer(front.url) as one:
            second, answer = await one.note("after")
            assert second != first
            assert answer == "keeps 1"
            assert {await one.note("more") for _ in range(5)} == {(second, f"keeps {n}") for n in range(2, 7)}
        assert len([pod for pod in pods.pods.values() if LOST in pod.log]) == 1


async def test_a_draining_pod_keeps_its_sessions_until_they_end(fleet):
    async with fleet(NOTEBOOK, drainTimeout="1m") as (pods, front, _):
        async with writer(front.url) as one:
            first, _ = await one.note("before")
            await pods.terminate(first)
            assert {await one.note("still") for _ in range(5)} == {(first, f"keeps {n}") for n in range(2, 7)}
            for _ in range(3):
                async with writer(front.url) as other:
                    assert (await other.note("new"))[0] != first
        await pods.delete(first)
        async with writer(front.url) as one:
            assert (await one.note("after"))[1] == "keeps 1"
        assert not any(LOST in pod.log for pod in pods.pods.values())
