"""What the access log costs: `python bench/accesslog.py [REQUESTS]`.

Time in the process for a request of a kept-alive connection with a sticky cookie, its threads included, with
the log off and with every request logged into a pipe. Transports are stubs: the kernel's part of a request,
some 10 µs, is in neither, so that the share shown is larger than that of a whole request.
"""

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from random import Random
from statistics import median

from stickyroute_api import settings, snapshot
from stickyroute_proxy.table import build
from stickyroute_proxy.wire.downstream import Downstream
from stickyroute_proxy.wire.listener import DataPlane
from stickyroute_proxy.wire.upstream import Upstream

ROUNDS = 10
PART = 10_000
COOKIE = b"SRV"
FIELDS = (
    b"Host: shop.example.com",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
    b"Accept: text/html,application/xhtml+xml",
    b"Accept-Language: en-GB,en;q=0.5",
    b"Accept-Encoding: gzip, deflate, br",
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024


class Transport(asyncio.Transport):
    """Takes everything and keeps the first of it."""

    written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written = self.written or bytes(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.written = self.written or b"".join(list_of_data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 50000) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass


def fleet(revision: int, mode: str) -> snapshot.Snapshot:
    rule = snapshot.Rule(
        name="app",
        matches=(snapshot.Match(),),
        backends=(snapshot.Backend(service="web", endpoints="shop/web:80"),),
        scope="web",
        persistence=snapshot.Persistence(
            type="Cookie", cookie=snapshot.Cookie(name=COOKIE.decode()), idle_timeout=1800
        ),
    )
    route = snapshot.Route(
        namespace="shop", name="shop", created=1, hosts=("shop.example.com",), rules=(rule,)
    )
    return snapshot.Snapshot(
        fleet="bench",
        epoch=1,
        revision=revision,
        settings=settings.Settings(access_log=settings.AccessLog(mode=mode)),
        keys=snapshot.TokenKeys(sealing=1, keys={1: base64.b64encode(os.urandom(32)).decode()}),
        routes={route.key: route},
        endpoints={
            "shop/web:80": (snapshot.Endpoint(id="uid-1", pod="web-1", address="10.0.0.1", port=8080),)
        },
    )


class Bench:
    """A data plane between one client and one endpoint that is always there."""

    def __init__(self, stdout: int) -> None:
        self.plane = DataPlane(random=Random(1), stdout=stdout)
        self.plane.loop = asyncio.get_running_loop()
        self.revision = 0
        self.keys = fleet(1, "Off").keys
        self.use("Off")
        assert self.plane.table is not None
        (endpoint,) = self.plane.table.endpoints()
        self.upstream = Upstream(self.plane.pool(endpoint), self.plane.counters)
        self.upstream.connection_made(Transport())
        endpoint.pool.put(self.upstream, time.monotonic())
        self.client = Downstream(self.plane)
        self.transport = Transport()
        self.client.connection_made(self.transport)
        line = b"GET /cart/items?sort=price HTTP/1.1"
        self.exchange(b"\r\n".join((line, *FIELDS, b"", b"")))
        token = self.transport.written.partition(b"set-cookie: ")[2].partition(b";")[0]
        self.request = b"\r\n".join((line, *FIELDS, b"Cookie: " + token, b"", b""))

    def use(self, mode: str) -> None:
        self.revision += 1
        given = fleet(self.revision, mode).model_copy(update={"keys": self.keys})
        self.plane.apply(build(given, self.plane.table, time.time(), self.plane.random))

    def exchange(self, request: bytes) -> None:
        self.client.data_received(request)
        self.upstream.data_received(ANSWER)

    def measure(self, requests: int) -> float:
        """Microseconds a request."""
        start = time.process_time()
        for _ in range(requests // PART):
            for _ in range(PART):
                self.exchange(self.request)
            time.sleep(0.3)  # an event loop waits often; here the log's thread would never have its turn
        if self.plane.log is not None:
            self.use("Off")
        return (time.process_time() - start) / requests * 1e6


async def compare(requests: int, stdout: int) -> None:
    bench = Bench(stdout)
    bench.measure(requests)
    off, every = [], []
    for _ in range(ROUNDS):
        off.append(bench.measure(requests))
        bench.use("All")
        every.append(bench.measure(requests))
    counters = bench.plane.counters
    print(f"log off      {median(off):6.2f} µs a request")
    print(f"log all      {median(every):6.2f} µs a request")
    print(f"difference   {median(every) - median(off):6.2f} µs, {counters.access_log_dropped} lines dropped")


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reader:
        assert reader.stdin is not None
        asyncio.run(compare(requests // ROUNDS, reader.stdin.fileno()))
        reader.stdin.close()


if __name__ == "__main__":
    main()
