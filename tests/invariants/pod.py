"""A pod's application: answers with what it saw of a request, and logs every request with its id.

Where the target says `gives=cookie` or `gives=header` it keeps sessions of its own: to who shows no value
that it knows it gives one out, in the cookie `ID` or the header `X-ID`.

In a cluster it is run by itself from a ConfigMap, with nothing but the standard library, and logs to its
standard output; after SIGTERM it accepts for LINGER seconds more and finishes what it has begun.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time

OURS = {"x-badge", "x_badge"}
"""Header fields that are the proxy's own, and none of the application's business."""


class Pod:
    """One life of a pod's process at its address; `write` takes the fields of a line."""

    def __init__(self, write, name, uid, instance=1):
        self.write = write
        self.name, self.uid, self.instance = name, uid, instance
        self.server = None
        self.connections = set()
        self.values = set()
        """That it gave out: its memory, which ends with it."""
        self.stopping = False

    async def start(self, address, port):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), address, port)

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
        self.chats = False
        """It is a WebSocket."""

    def connection_made(self, transport):
        self.transport = transport
        self.pod.connections.add(self)

    def data_received(self, data):
        self.buffer += data
        if self.chats:
            self.listen()
            return
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

        def of(name):
            return ",".join(pair.partition("=")[2] for pair in cookies if pair.startswith(f"{name}="))

        ours = [*(pair for pair in cookies if pair.startswith("sid=")), *(OURS & fields.keys())]
        self.request = {
            "id": ",".join(fields.get("x-request-id", ())),
            "pod": self.pod.name,
            "uid": self.pod.uid,
            "instance": self.pod.instance,
            "method": method,
            "from": time.time(),
            "notice": ",".join(fields.get("x-session-lost", ())),
            "session": of("app"),
            "secret": ",".join(fields.get("x-private", ())),
            "leaked": bool(ours),
        }
        self.given = b""
        if "upgrade" in fields:
            self.welcome()
            return
        if "gives=" in target:
            by_cookie = "gives=cookie" in target
            self.give(of("ID") if by_cookie else ",".join(fields.get("x-id", ())), by_cookie)
        if "slow=" in target:
            pause = int(target.rpartition("slow=")[2]) / 1000
            self.timer = asyncio.get_running_loop().call_later(pause, self.answer)
        else:
            self.answer()

    def give(self, shown, by_cookie):
        """A value for the client, if it shows none that is known here."""
        told, values = self.request, self.pod.values
        told |= {"shown": shown, "gave": ""}
        if shown not in values:
            told["gave"] = value = f"{told['session']}.{secrets.token_hex(8)}"
            values.add(value)
            line = "Set-Cookie: ID=%s; Path=/; HttpOnly\r\n" if by_cookie else "X-ID: %s\r\n"
            self.given = (line % value).encode()

    def welcome(self):
        """Become a WebSocket; the key of our clients is that of RFC 6455, section 1.3."""
        self.chats = True
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )

    def listen(self):
        """Say again what is said, in short frames that are masked by nothing, until the end is."""
        while len(self.buffer) >= 2 and len(self.buffer) >= (end := 6 + (self.buffer[1] & 127)):
            opcode, content, self.buffer = self.buffer[0] & 15, self.buffer[6:end], self.buffer[end:]
            if opcode == 1:
                content = f"{self.pod.uid} ".encode() + content
            self.transport.write(bytes((0x80 | opcode, len(content))) + content)
            if opcode == 8:
                self.end(finished=True)
                self.transport.close()
                return

    def answer(self):
        told, self.timer = self.request, None
        names = ("id", "pod", "uid", "instance", "session", "secret")
        body = json.dumps({name: told[name] for name in names}).encode()
        last = b"Connection: close\r\n" if self.pod.stopping else b""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b%b\r\n"
        self.transport.write(head % (len(body), last, self.given) + body)
        self.end(finished=True)
        if self.pod.stopping:
            self.transport.close()

    def end(self, *, finished):
        told, self.request = self.request, None
        if told is not None and told["session"]:  # a probe has none
            self.pod.write(**told, to=time.time(), finished=finished)

    def connection_lost(self, _error):
        self.pod.connections.discard(self)
        if self.timer is not None:
            self.timer.cancel()
        if self.request is not None:
            self.end(finished=False)


async def main():
    def write(**fields):
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()

    def tell(what):
        write(event="pod", what=what, time=time.time(), pod=pod.name, uid=pod.uid)

    pod = Pod(write, os.environ["POD_NAME"], os.environ["POD_UID"])
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await pod.start("", int(os.environ["PORT"]))
    tell("started")
    await ending.wait()
    tell("terminating")
    await asyncio.sleep(float(os.environ["LINGER"]))
    pod.stop()
    tell("stopped")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while pod.connections:
                await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
