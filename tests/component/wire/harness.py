"""A data plane on real sockets between scripted backends and raw clients."""

import asyncio
import base64
import socket
import struct
from contextlib import asynccontextmanager, suppress
from random import Random

import h11
from tests.waiting import until as eventually

from stickyroute_api import snapshot
from stickyroute_api.settings import Settings
from stickyroute_api.snapshot import Snapshot, TokenKeys
from stickyroute_proxy.table import build
from stickyroute_proxy.wire.listener import DataPlane

KEYS = TokenKeys(sealing=1, keys={1: base64.b64encode(b"k" * 32).decode()})
COOKIE = "sr"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Backend:
    """A server that does with each connection what its script says, and keeps what it received."""

    def __init__(self, script, tls=None):
        self.script = script
        self.tls = tls
        self.received: list[bytearray] = []
        self.connections = 0
        self.errors: list[BaseException] = []
        self._writers = set()
        self._tasks = set()

    async def start(self, port=0):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        seen = bytearray()
        self.received.append(seen)
        self._writers.add(writer)
        try:
            await self.script(Conversation(reader, writer, seen))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(asyncio.current_task())

    async def stop(self):
        self.server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not self.errors

    @property
    def bytes(self) -> bytes:
        return b"".join(self.received)

    def requests(self, connection=0):
        """What h11, as an independent parser, reads in what the backend received."""
        return parse_requests(bytes(self.received[connection]))


class Conversation:
    """A backend's side of one connection."""

    def __init__(self, reader, writer, seen):
        self.reader, self.writer, self.seen = reader, writer, seen

    async def read(self, size=65536):
        data = await self.reader.read(size)
        self.seen += data
        return data

    async def request(self):
        """Read one whole request; its head and body. Raises IncompleteReadError at the end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.seen += head
        lower = head.lower()
        body = b""
        if b"\r\ncontent-length: " in lower:
            length = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            body = await self.reader.readexactly(length)
            self.seen += body
        elif b"\r\ntransfer-encoding: chunked" in lower:
            while True:
                line = await self.reader.readuntil(b"\r\n")
                data = await self.reader.readexactly(int(line, 16) + 2)
                self.seen += line + data
                body += data[:-2]
                if line == b"0\r\n":
                    break
        return head, body

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()


def parse_requests(data):
    """[(method, target, headers, body), …]; raises h11.RemoteProtocolError where h11 finds fault."""
    found = []
    while data:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        request = connection.next_event()
        assert isinstance(request, h11.Request), request
        body = b""
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                assert not list(event.headers)
                break
            assert isinstance(event, h11.Data), f"incomplete request: {event}"
            body += bytes(event.data)
        found.append((request.method, request.target, list(request.headers), body))
        data = connection.trailing_data[0]
    return found


def echo(reply=None):
    """A script that answers every request with 200 and what it was sent, or with what `reply` makes of it."""

    async def script(peer):
        while True:
            try:
                head, body = await peer.request()
            except asyncio.IncompleteReadError:
                return
            answer = (
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                if reply is None
                else reply(head, body)
            )
            await peer.send(answer)

    return script


def endpoint(port, uid="uid-a", **fields):
    fields = {"pod": uid.removeprefix("uid-")} | fields
    return snapshot.Endpoint(id=uid, address="127.0.0.1", port=port, **fields)


def fleet(*endpoints, revision=1, settings=None, persistence=None, health=None, **rule):
    persistence = persistence or snapshot.Persistence(type="Cookie", cookie=snapshot.Cookie(name=COOKIE))
    one = snapshot.Rule(
        name="app",
        matches=(snapshot.Match(),),
        backends=(snapshot.Backend(service="web", endpoints="shop/web:80"),),
        scope="web",
        persistence=persistence,
        **rule,
    )
    route = snapshot.Route(namespace="shop", name="shop", created=1.0, rules=(one,))
    return Snapshot(
        fleet="stickyroute",
        epoch=1,
        revision=revision,
        settings=settings or Settings(),
        keys=KEYS,
        routes={route.key: route},
        endpoints={"shop/web:80": endpoints},
        health={} if health is None else {"shop/web:80": health},
    )


class Proxy:
    """A data plane that serves a snapshot on a port of its own."""

    def __init__(self, **options):
        self.plane = DataPlane(random=Random(0), **options)

    async def start(self, given=None):
        if given is not None:
            self.apply(given)
        server = await self.plane.listen("127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def apply(self, given):
        plane = self.plane
        plane.apply(build(given, plane.table, plane.clock(), plane.random))

    async def connect(self):
        return Raw(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, data):
        """Send bytes on a new connection, close our half, return all that comes back."""
        raw = await self.connect()
        try:
            await raw.send(data)
            raw.writer.write_eof()
            return await raw.rest()
        finally:
            await raw.close()


class Raw:
    """A client that says exactly what it is told."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self):
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def head(self):
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self):
        """One whole answer with a Content-Length: head and body."""
        head = await self.head()
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or 0)
        async with asyncio.timeout(10):
            return head, await self.reader.readexactly(length)

    async def close(self):
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self):
        """End with RST."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()


@asynccontextmanager
async def serving(*scripts, settings=None, **rule):
    """A proxy before one backend per script: (proxy, *backends). At the end nothing may be left over."""
    backends = [await Backend(script).start() for script in scripts]
    endpoints = [endpoint(backend.port, f"uid-{chr(97 + i)}") for i, backend in enumerate(backends)]
    proxy = await Proxy().start(fleet(*endpoints, settings=settings, **rule))
    try:
        yield proxy, *backends
    finally:
        plane = proxy.plane
        in_flight = [one.in_flight for one in plane.table.endpoints()]
        await plane.drain(0, 0.2)
        for backend in backends:
            await backend.stop()
        await eventually(lambda: not plane.counters.upstreams)
        assert plane.counters.open_connections == plane.counters.exchanges == plane.counters.tunnels == 0
        assert not plane.active
        assert plane.counters.queued == plane.lingering == 0
        assert [one.in_flight for one in plane.table.endpoints()] == [0] * len(in_flight)


def get(path="/", *lines, host="shop.example.com", method="GET", version="1.1"):
    fields = [f"{method} {path} HTTP/{version}", f"Host: {host}", *lines]
    return ("\r\n".join(fields) + "\r\n\r\n").encode()
