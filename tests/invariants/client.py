"""A client's connections to the proxies."""

import asyncio
import time
from collections import defaultdict

PATIENCE = 20.0
"""Seconds without an answer after which one is missing."""
IDLE = 2.0
"""Seconds that a connection waits for its next request: less than a proxy that ends still answers."""


class Connection(asyncio.Protocol):
    """One at a time: a request, and its answer with a length."""

    def __init__(self):
        self.transport = self.waiter = None
        self.buffer = b""
        self.closed = False
        self.since = 0.0

    def ask(self, message):
        """A future of the answer: its head's lines, its fields, its content."""
        loop = asyncio.get_running_loop()
        self.waiter = waiter = loop.create_future()
        timer = loop.call_later(PATIENCE, self.connection_lost, TimeoutError("no answer"))
        waiter.add_done_callback(lambda _: timer.cancel())
        if self.closed:
            self.connection_lost(None)
        else:
            self.transport.write(message)
        return waiter

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        line, *fields = self.buffer[:end].decode("latin-1").split("\r\n")
        parts = (one.partition(":") for one in fields)
        lower = [(name.lower(), value.strip()) for name, _, value in parts]
        values = dict(lower)
        rest = self.buffer[end + 4 :]
        length = int(values["content-length"])
        if len(rest) < length:
            return
        waiter, self.waiter, self.buffer = self.waiter, None, b""
        if values.get("connection", "").lower() == "close":
            self.closed = True
            self.transport.close()
        if waiter is None or len(rest) > length:
            raise SystemExit(f"bytes that nobody asked for: {line} {rest!r}")
        if not waiter.done():
            waiter.set_result((int(line.split(" ")[1]), lower, rest))

    def connection_lost(self, error):
        self.closed = True
        self.transport.close()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error or EOFError("closed without an answer"))


class Proxies:
    """Where requests go, and the connections that are open there."""

    def __init__(self, host):
        self.host = host
        self.ports = {}
        self.names = ()
        self.idle = defaultdict(list)
        self.some = asyncio.Event()

    def take(self, ports):
        self.ports = ports
        self.names = sorted(ports)
        for name in self.idle.keys() - ports.keys():
            for connection in self.idle.pop(name):
                connection.transport.close()
        if ports:
            self.some.set()
        else:
            self.some.clear()

    async def connection(self, name):
        idle = self.idle[name]
        while idle:
            connection = idle.pop()
            if not connection.closed and time.monotonic() - connection.since < IDLE:
                return connection
            connection.transport.close()
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.ports[name])
        return connection

    def put(self, name, connection):
        connection.since = time.monotonic()
        if name in self.ports:
            self.idle[name].append(connection)
        else:
            connection.transport.close()
