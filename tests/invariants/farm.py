"""The pods, all in one process: `python -m tests.invariants.farm LOG`, ordered by JSON lines on its input.

Each has an address of its own, answers with what it saw of a request, and logs every request with its id.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop
from tests.invariants.logs import Log


class Pod:
    """One life of a pod's process at its address."""

    def __init__(self, log, given):
        self.log = log
        self.name, self.uid, self.instance = given["pod"], given["uid"], given["instance"]
        self.address, self.port = given["address"], given["port"]
        self.server = None
        self.connections = set()
        self.stopping = False

    async def start(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), self.address, self.port)

    def stop(self):
        """Take no more connections; finish what has begun."""
        self.stopping = True
        self.server.close()
        for connection in tuple(self.connections):
            if connection.request is None:
                connection.transport.close()

    def crash(self):
        self.stopping = True
        self.server.close()
        for connection in tuple(self.connections):
            connection.transport.abort()


class Connection(asyncio.Protocol):
    """HTTP/1.1 as the proxy speaks it: bodies with a length, nothing pipelined."""

    def __init__(self, pod):
        self.pod = pod
        self.buffer = b""
        self.request = self.timer = None

    def connection_made(self, transport):
        self.transport = transport
        self.pod.connections.add(self)

    def data_received(self, data):
        self.buffer += data
        while self.request is None and (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            line, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
            fields = {}
            for one in lines:
                name, _, value = one.partition(":")
                fields.setdefault(name.lower(), []).append(value.strip())
            length = int(fields.get("content-length", ["0"])[0])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            self.begin(line, fields)

    def begin(self, line, fields):
        method, target, _ = line.split(" ")
        cookies = [pair.strip() for value in fields.get("cookie", ()) for pair in value.split(";")]
        apps = [pair.partition("=")[2] for pair in cookies if pair.startswith("app=")]
        self.request = {
            "id": ",".join(fields.get("x-request-id", ())),
            "pod": self.pod.name,
            "uid": self.pod.uid,
            "instance": self.pod.instance,
            "method": method,
            "from": time.time(),
            "notice": ",".join(fields.get("x-session-lost", ())),
            "session": ",".join(apps),
            "secret": ",".join(fields.get("x-private", ())),
            "leaked": any(pair.startswith("sid=") for pair in cookies),
        }
        if "slow=" in target:
            pause = int(target.rpartition("slow=")[2]) / 1000
            self.timer = asyncio.get_running_loop().call_later(pause, self.answer)
        else:
            self.answer()

    def answer(self):
        told, self.timer = self.request, None
        names = ("id", "pod", "uid", "instance", "session", "secret")
        body = json.dumps({name: told[name] for name in names}).encode()
        last = b"Connection: close\r\n" if self.pod.stopping else b""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n"
        self.transport.write(head % (len(body), last) + body)
        self.end(finished=True)
        if self.pod.stopping:
            self.transport.close()
        elif self.buffer:
            self.data_received(b"")

    def end(self, *, finished):
        told, self.request = self.request, None
        self.pod.log.write(**told, to=time.time(), finished=finished)

    def connection_lost(self, _error):
        self.pod.connections.discard(self)
        if self.timer is not None:
            self.timer.cancel()
        if self.request is not None:
            self.end(finished=False)


async def main(log):
    """Obey until the input ends; each order is answered when it is done."""
    pods = {}
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        order = json.loads(line)
        match order["do"]:
            case "start":
                pod = pods[order["uid"]] = Pod(log, order)
                await pod.start()
            case "stop":
                pods[order["uid"]].stop()
            case "crash":
                pods[order["uid"]].crash()
        print("done", flush=True)


if __name__ == "__main__":
    uvloop.run(main(Log(Path(sys.argv[1]))))
