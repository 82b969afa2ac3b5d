"""A Socket.IO chat: python-socketio's server and its own client."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
import socketio

CHAT = "socketio/chat.yaml"

# Now and then its client leaves without closing a connection; what is judged is what visitors are told.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")

TRANSPORTS = {"upgrade": ["polling", "websocket"], "polling": ["polling"], "websocket": ["websocket"]}


class Visitor:
    """A client that keeps its cookies, and what it was told."""

    def __init__(self, name, http):
        self._name = name
        self.first = None
        self.chat = socketio.AsyncClient(http_session=http, reconnection_delay=0.1)
        self.welcomes, self.replies = asyncio.Queue(), asyncio.Queue()
        self.chat.on("welcome", self.welcomes.put_nowait)
        self.chat.on("reply", self.replies.put_nowait)

    async def come(self, url, transports):
        await self.chat.connect(url, transports=transports, auth={"visitor": self._name}, retry=False)
        return await self.welcome()

    async def welcome(self):
        return await soon(self.welcomes.get())

    async def say(self, text):
        """How many lines there are then, the answer, and whose it is."""
        count = await self.chat.call("say", text, timeout=10)
        reply = await soon(self.replies.get())
        return count, reply["text"], reply["pod"]


@asynccontextmanager
async def visitor(name, url, transports):
    each = aiohttp.TCPConnector(force_close=True)  # each request may come to the other proxy
    async with aiohttp.ClientSession(connector=each) as http:
        made = Visitor(name, http)
        try:
            made.first = await made.come(url, transports)
            yield made
        finally:
            await made.chat.shutdown()


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, 20)


async def talk(name, url, transports):
    """All that a visitor is told who leaves and comes again; and by which pods."""
    async with visitor(name, url, transports) as one:
        welcome, told, pods = one.first, [], set()
        for last in (False, True):
            pods.add(welcome.pop("pod"))
            told.append(welcome)
            for number in range(5):
                *said, pod = await one.say(f"{name} {number}")
                told.append(said)
                pods.add(pod)
            told.append(one.chat.transport())
            if not last:
                await one.chat.disconnect()
                welcome = await one.come(url, transports)
        return told, pods


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_it_works_as_with_one_pod(fleet, transports):
    async with fleet(CHAT) as (_, front, alone):

        async def all_talk(url):
            return await asyncio.gather(*(talk(f"visitor {number}", url, transports) for number in range(6)))

        direct, proxied = await asyncio.gather(all_talk(alone.url), all_talk(front.url))
        assert [told for told, _ in proxied] == [told for told, _ in direct]
        assert all(len(pods) == 1 for _, pods in proxied)
        assert len(set().union(*(pods for _, pods in proxied))) > 1


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_a_deleted_pods_chats_go_on_at_one_other(fleet, transports):
    async with fleet(CHAT) as (pods, front, _), visitor("ann", front.url, transports) as ann:
        first = ann.first["pod"]
        await ann.say("before")
        await pods.delete(first)
        welcome = await ann.welcome()  # it has come again by itself
        if welcome["pod"] == first:  # by the proxy that heard of it later
            welcome = await ann.welcome()
        second = welcome["pod"]
        assert second != first
        assert welcome["lines"] == []
        if transports[-1] == "websocket":  # else the chat's last poll was told already
            assert welcome["lost"] == "PodTerminated"
        for number in range(1, 6):
            assert await ann.say(f"{number}") == (number, f"You said: {number}", second)
        await ann.chat.disconnect()
        welcome = await ann.come(front.url, transports)
        assert welcome == {"pod": second, "lines": ["1", "2", "3", "4", "5"], "lost": None}


async def test_a_broken_line_finds_its_chat_again(fleet):
    transports = TRANSPORTS["upgrade"]
    async with fleet(CHAT) as (_, front, _), visitor("ann", front.url, transports) as ann:
        first = ann.first["pod"]
        for number in range(1, 6):
            await ann.say("hello")
            front.cut()
            welcome = await ann.welcome()
            assert welcome == {"pod": first, "lines": ["hello"] * number, "lost": None}


async def test_a_draining_pod_keeps_its_chats_until_they_end(fleet):
    transports = TRANSPORTS["upgrade"]
    async with fleet(CHAT, drainTimeout="1m") as (pods, front, _):
        async with visitor("ann", front.url, transports) as ann:
            first = ann.first["pod"]
            await pods.terminate(first)
            assert await ann.say("still here") == (1, "You said: still here", first)
            front.cut()
            assert await ann.welcome() == {"pod": first, "lines": ["still here"], "lost": None}
            for number in range(3):
                async with visitor(f"newcomer {number}", front.url, transports) as newcomer:
                    assert newcomer.first["pod"] != first
        await pods.delete(first)
        async with visitor("ann", front.url, transports) as ann:
            assert ann.first["lines"] == []
