"""The access log of a data plane that serves, read from a pipe."""

import asyncio
import json
import os
from contextlib import asynccontextmanager
from socket import SO_LINGER, SOL_SOCKET
from struct import pack

from tests.component.wire.harness import echo, endpoint, eventually, fleet, get, serving

from stickyroute_api.settings import AccessLog, Settings
from stickyroute_api.snapshot import Retries

RESET = pack("ii", 1, 0)
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class Log:
    """The other end of the log's pipe."""

    def __init__(self, handle):
        self._handle = handle
        self._text = b""
        os.set_blocking(handle, False)

    @property
    def lines(self):
        while True:
            try:
                data = os.read(self._handle, 65536)
            except BlockingIOError:
                break
            if not data:
                break
            self._text += data
        whole = self._text[: self._text.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    async def wait(self, count):
        await eventually(lambda: len(self.lines) >= count)
        await asyncio.sleep(0.15)
        assert len(self.lines) == count
        return self.lines


@asynccontextmanager
async def logging(*scripts, mode="All", sample=0.01, **rule):
    """A proxy whose log goes into a pipe: (proxy, log, apply, *backends)."""
    read, write = os.pipe()
    try:
        async with serving(*scripts, **rule) as (proxy, *backends):
            proxy.plane._stdout = write
            ports = [backend.port for backend in backends]
            revision = 1

            def apply(mode, sample=0.01, **given):
                nonlocal revision
                revision += 1
                endpoints = [endpoint(port, f"uid-{chr(97 + at)}") for at, port in enumerate(ports)]
                settings = Settings(access_log=AccessLog(mode=mode, sample=sample), **given)
                proxy.apply(fleet(*endpoints, revision=revision, settings=settings, **rule))

            apply(mode, sample)
            yield proxy, Log(read), apply, *backends
    finally:
        os.close(read)
        os.close(write)


async def test_each_exchange_of_a_connection_is_a_line():
    async with logging(echo()) as (proxy, log, _, backend):
        raw = await proxy.connect()
        for size in (0, 5):
            fields = (f"Content-Length: {size}",) if size else ()
            method = "POST" if size else "GET"
            await raw.send(get("/a?b=c", "User-Agent: test", *fields, method=method) + b"x" * size)
            await raw.answer()
        await raw.close()
        first, second = await log.wait(2)
    assert (first["status"], first["path"], first["reason"], first["endpoint"]) == (200, "/a", "New", "a")
    assert first["address"] == f"127.0.0.1:{backend.port}"
    assert first["client"] == "127.0.0.1"
    assert 0 < first["connect"] <= first["firstByte"] <= first["total"]
    assert (second["received"], second["sent"], second["connect"]) == (5, 5, None)
    assert first["requestId"].encode() in backend.bytes
    assert first["requestId"] != second["requestId"]


async def test_the_client_is_who_is_believed_now_though_its_fields_stay_the_same():
    async with logging(echo()) as (proxy, log, apply, _backend):
        raw = await proxy.connect()
        for trusted in ((), ("127.0.0.0/8",), ()):
            apply("All", trusted_proxies=trusted)
            for _ in range(2):
                await raw.send(get("/", "X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https"))
                await raw.answer()
        await raw.close()
        lines = await log.wait(6)
    own, told = ("127.0.0.1", "http"), ("192.0.2.9", "https")
    assert [(line["client"], line["scheme"]) for line in lines] == [own, own, told, told, own, own]


async def test_what_is_refused_is_a_line_with_its_cause():
    async with logging(echo()) as (proxy, log, _, _backend):
        await proxy.ask(b"GET / HTTP/1.1\r\n\r\n")
        (malformed,) = await log.wait(1)
        answer = await proxy.ask(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        *_, broken = await log.wait(2)
    assert (malformed["status"], malformed["message"], malformed["path"]) == (400, "no Host", None)
    assert (broken["status"], broken["path"], broken["rule"], broken["endpoint"]) == (400, "/", "app", "a")
    assert broken["message"]
    assert broken["requestId"].encode() in answer
    assert proxy.plane.counters.refused == {400: 2}


async def test_retries_are_told_and_the_last_decision():
    async with logging(echo(), echo(), retries=Retries(attempts=1)) as (proxy, log, _, first, _second):
        await first.stop()
        for _ in range(4):
            await proxy.ask(get(method="GET"))
        found = await log.wait(4)
    assert {one["endpoint"] for one in found} == {"b"}
    assert sorted(one["retries"] for one in found) == [0, 0, 1, 1]


async def test_a_client_that_goes_is_a_line_of_status_0():
    async def silent(peer):
        await peer.request()
        await peer.read()

    async with logging(silent) as (proxy, log, _, backend):
        raw = await proxy.connect()
        await raw.send(get())
        await eventually(lambda: backend.bytes.endswith(b"\r\n\r\n"))
        raw.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        await raw.close()
        (found,) = await log.wait(1)
    assert (found["status"], found["firstByte"], found["endpoint"]) == (0, None, "a")


async def test_a_websocket_is_one_line_when_it_ends():
    async def tunnel(peer):
        await peer.request()
        await peer.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        await peer.read()

    async with logging(tunnel) as (proxy, log, _, _backend):
        raw = await proxy.connect()
        await raw.send(get("/chat", *WEBSOCKET))
        await raw.head()
        await asyncio.sleep(0.2)
        assert not log.lines
        await raw.close()
        (found,) = await log.wait(1)
    assert (found["status"], found["path"]) == (101, "/chat")
    assert found["total"] >= 200


async def test_settings_that_are_pushed_count_from_the_next_exchange():
    def reply(head, _body):
        status = head.split(b" ")[1][1:4]
        return b"HTTP/1.1 %b X\r\nContent-Length: 0\r\n\r\n" % status

    async with logging(echo(reply), mode="Off") as (proxy, log, apply, _):
        raw = await proxy.connect()

        async def ask(*statuses):
            for status in statuses:
                await raw.send(get(f"/{status}"))
                await raw.answer()

        await ask(200, 500)
        apply("All")
        await ask(201, 501)
        apply("Sampled", 1e-9)
        await ask(202, 502)
        apply("Off")
        await ask(203, 503)
        apply("All")
        await ask(204, 504)
        await raw.close()
        await eventually(lambda: len(log.lines) == 5)
        assert sorted(one["status"] for one in log.lines) == [201, 204, 501, 502, 504]
        assert proxy.plane.log is not None
    assert proxy.plane.log is None


async def test_a_stalled_reader_slows_no_request_and_what_is_lost_is_counted(monkeypatch):
    monkeypatch.setattr("stickyroute_proxy.writer.MAX_BYTES", 100_000)
    monkeypatch.setattr("stickyroute_proxy.wire.listener.FLUSH", 0.2)
    async with logging(echo()) as (proxy, log, _, _backend):
        raw = await proxy.connect()
        for number in range(1000):
            await raw.send(get(f"/{number}"))
            await raw.answer()
        await raw.close()
        dropped = proxy.plane.counters.access_log_dropped
        assert dropped
        await proxy.plane.drain(0, 0.2)  # it does not wait for the reader
        assert 0 < len(log.lines) <= 1000 - dropped


async def test_lines_are_whole_and_all_there_under_load():
    count = 2000
    async with logging(echo()) as (proxy, log, _, _backend):

        async def client(name):
            raw = await proxy.connect()
            for number in range(count // 20):
                await raw.send(get(f"/{name}/{number}"))
                await raw.answer()
            await raw.close()

        reading = asyncio.create_task(log.wait(count))
        await asyncio.gather(*(client(name) for name in range(20)))
        found = await reading
        assert {one["path"] for one in found} == {
            f"/{name}/{number}" for name in range(20) for number in range(count // 20)
        }
        assert not proxy.plane.counters.access_log_dropped
