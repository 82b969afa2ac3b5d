"""A well-behaved application in a pod, and the ledger that remembers what all of its pods saw.

Run in the product's image from a ConfigMap, with nothing but the standard library. As an application it keeps
each session's counter in its memory, reports every POST to the ledger before it answers, and after SIGTERM
accepts for three seconds more and finishes what it has begun. With ROLE=ledger it is the ledger. Where TLS
names a folder with tls.crt and tls.key, port 8443 speaks TLS.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import ssl
import uuid

POD = os.environ.get("POD_NAME", "")
PORTS = [int(port) for port in os.environ.get("PORT", "8000").split(",")]
LEDGER = os.environ.get("LEDGER", "")
TLS = os.environ.get("TLS", "")
LINGER = 3.0


class Ledger:
    """Every sighting of a request, once: senders may repeat a receipt."""

    def __init__(self):
        self.seen = {}

    def answer(self, request):
        if request.method == "POST":
            note = json.loads(request.body)
            self.seen.setdefault(note["id"], {})[note["receipt"]] = note["pod"]
        return {name: sorted(receipts.values()) for name, receipts in self.seen.items()}


class Reporter:
    """One connection to the ledger, made anew when it breaks."""

    def __init__(self, host):
        self.host, self.streams, self.lock = host, None, asyncio.Lock()

    async def report(self, request_id):
        note = json.dumps({"id": request_id, "pod": POD, "receipt": uuid.uuid4().hex}).encode()
        head = f"POST /seen HTTP/1.1\r\nHost: ledger\r\nContent-Length: {len(note)}\r\n\r\n".encode()
        async with self.lock:
            while True:
                try:
                    if not self.streams:
                        self.streams = await asyncio.open_connection(self.host, 8000)
                    reader, writer = self.streams
                    writer.write(head + note)
                    answer = await read_message(reader)
                    # until kube-proxy knows the Service, others may answer at its address
                    if answer and request_id in json.loads(answer.body or "{}"):
                        return
                except (OSError, EOFError, ValueError):
                    pass
                self.streams = None
                await asyncio.sleep(0.05)


class Message:
    def __init__(self, line, headers, body):
        self.method, self.target = (*line.split(" "), "", "")[:2]
        self.headers, self.body = headers, body


async def read_head(reader):
    """The first line and headers; None when the peer has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields if field)
    return line, {name.lower(): value.strip() for name, _, value in pairs}


async def read_body(reader, headers):
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (await reader.readline()).strip():
            pass
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def read_message(reader):
    head = await read_head(reader)
    return head and Message(*head, await read_body(reader, head[1]))


class Server:
    def __init__(self, role):
        self.ledger = Ledger() if role == "ledger" else None
        self.reporter = Reporter(LEDGER) if LEDGER else None
        self.counts, self.connections, self.busy = {}, {}, 0
        self.stopping, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()

    async def serve(self, reader, writer):
        name = f"{POD}/{uuid.uuid4().hex[:8]}"
        self.connections[name] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await read_head(reader):
                self.busy += 1
                self.idle.clear()
                try:
                    last = await self.exchange(name, head, reader, writer)
                finally:
                    self.busy -= 1
                    if not self.busy:
                        self.idle.set()
                if last:
                    break
        del self.connections[name]
        writer.close()

    async def exchange(self, name, head, reader, writer):
        line, headers = head
        if self.reporter and line.startswith("POST ") and "x-load-id" in headers:
            await self.reporter.report(headers["x-load-id"])
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = Message(line, headers, await read_body(reader, headers))
        if request.target.startswith("/slow"):
            await asyncio.sleep(float(request.target.partition("=")[2] or 1))
        set_cookie = ""
        if self.ledger:
            answer = self.ledger.answer(request)
        else:
            answer, set_cookie = self.application(name, request, writer)
        last = self.stopping.is_set() or headers.get("connection", "").lower() == "close"
        connection = "close" if last else "keep-alive"
        body = json.dumps(answer).encode()
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"{set_cookie}Connection: {connection}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        return last

    def application(self, name, request, writer):
        """The session's own counter, and what the proxy said of it."""
        pairs = (pair.strip().partition("=") for pair in request.headers.get("cookie", "").split(";"))
        cookies = {key: value for key, _, value in pairs}
        session = cookies.get("app-session") or uuid.uuid4().hex
        probe = request.target == "/healthz"
        if not probe:
            self.counts[session] = self.counts.get(session, 0) + 1
        answer = {
            "pod": POD,
            "session": session,
            "count": self.counts.get(session, 0),
            "notice": request.headers.get("x-session-lost"),
            "connection": name,
            "port": writer.get_extra_info("sockname")[1],
            "sha256": hashlib.sha256(request.body).hexdigest(),
            "leaked": sorted(key for key in cookies if key.startswith("stickyroute-")),
        }
        if request.target.startswith("/echo"):
            answer["request"] = {"target": request.target, "headers": request.headers}
        return answer, "" if "app-session" in cookies or probe else f"Set-Cookie: app-session={session}\r\n"

    async def run(self):
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stopping.set)
        servers = [await asyncio.start_server(self.serve, "", port, limit=1 << 20) for port in PORTS]
        if TLS:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(f"{TLS}/tls.crt", f"{TLS}/tls.key")
            servers.append(await asyncio.start_server(self.serve, "", 8443, limit=1 << 20, ssl=context))
        await self.stopping.wait()
        await asyncio.sleep(0 if self.ledger else LINGER)
        for server in servers:
            server.close()
        await self.idle.wait()
        for writer in list(self.connections.values()):
            writer.close()


if __name__ == "__main__":
    asyncio.run(Server(os.environ.get("ROLE", "app")).run())
