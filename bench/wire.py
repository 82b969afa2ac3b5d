"""CPU per request of the data path beside HAProxy: `python bench/wire.py [ROUNDS] [SECONDS]`.

Needs `wrk` and `haproxy`. The proxy under test has a core for itself, load generator and backends another.
Rounds are interleaved, and only the ratio inside one run says anything. CPU is read from schedstat.
"""

import asyncio
import base64
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from stickyroute_api import snapshot

BACKENDS = (18101, 18102, 18103)
HAPROXY, OURS = 18110, 18111
BODY = "x" * 1024
HOST = "shop.example.com"
FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
    "Accept: text/html,application/xhtml+xml",
    "Accept-Language: en-GB,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
)
COMMON = """
global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 2s
  timeout http-request 15s
"""


def backend_config() -> str:
    binds = "".join(f"  bind 127.0.0.1:{port}\n" for port in BACKENDS)
    answer = f'http-request return status 200 content-type text/plain string "{BODY}"'
    return f"{COMMON}frontend backend\n{binds}  {answer}\n"


def haproxy_config() -> str:
    servers = "".join(f"  server s{port} 127.0.0.1:{port} cookie s{port}\n" for port in BACKENDS)
    return (
        f"{COMMON}frontend front\n  bind 127.0.0.1:{HAPROXY}\n  option forwardfor\n"
        f"  acl ours hdr(host) -i {HOST}\n  use_backend web if ours {{ path_beg / }}\n"
        "backend web\n  balance roundrobin\n  http-reuse always\n  cookie SRV insert indirect nocache\n"
        + servers
    )


def serve() -> None:
    """Be the proxy under test."""
    import uvloop  # noqa: PLC0415 - only the child needs it

    from stickyroute_proxy.table import build  # noqa: PLC0415
    from stickyroute_proxy.wire.listener import DataPlane  # noqa: PLC0415

    endpoints = tuple(
        snapshot.Endpoint(id=f"uid-{port}", pod=f"web-{port}", address="127.0.0.1", port=port)
        for port in BACKENDS
    )
    rule = snapshot.Rule(
        name="app",
        matches=(snapshot.Match(),),
        backends=(snapshot.Backend(service="web", endpoints="shop/web:80"),),
        scope="web",
        persistence=snapshot.Persistence(
            type="Cookie", cookie=snapshot.Cookie(name="SRV"), idle_timeout=1800, absolute_timeout=43200
        ),
    )
    route = snapshot.Route(namespace="shop", name="shop", created=1.0, hosts=(HOST,), rules=(rule,))
    given = snapshot.Snapshot(
        fleet="bench",
        epoch=1,
        revision=1,
        keys=snapshot.TokenKeys(sealing=1, keys={1: base64.b64encode(b"k" * 32).decode()}),
        routes={route.key: route},
        endpoints={"shop/web:80": endpoints},
    )

    async def run() -> None:
        plane = DataPlane()
        plane.apply(build(given, None, time.time(), Random(0)))
        await plane.listen("127.0.0.1", OURS)
        await asyncio.Event().wait()

    uvloop.run(run())


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def start(folder: Path, name: str, core: int, command: list[str]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(["taskset", "-c", str(core), *command], stdout=log, stderr=log)


def cookie(port: int) -> str:
    """The cookie that the proxy gives a new client."""
    for _ in range(100):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/", headers={"Host": HOST})
            answer = connection.getresponse()
            assert len(answer.read()) == len(BODY)
            return (answer.getheader("set-cookie") or "").partition(";")[0]
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing serves on port {port}")


def load(port: int, seconds: int, sent: str) -> int:
    """Requests answered, all of them with 200."""
    fields = [part for field in (*FIELDS, f"Cookie: {sent}", f"Host: {HOST}") for part in ("-H", field)]
    url = f"http://127.0.0.1:{port}/a/b"
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", *fields, url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    return next(int(line.split()[0]) for line in text.splitlines() if "requests in" in line)


def compare(rounds: int, seconds: int) -> None:
    for tool in ("wrk", "haproxy", "taskset"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed; on Debian: apt-get install wrk haproxy util-linux")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "backend.cfg").write_text(backend_config())
        (folder / "haproxy.cfg").write_text(haproxy_config())
        processes = [
            start(folder, "backend", 1, ["haproxy", "-db", "-f", str(folder / "backend.cfg")]),
            start(folder, "haproxy", 0, ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]),
            start(folder, "ours", 0, [sys.executable, __file__, "serve"]),
        ]
        peers = {"haproxy": (HAPROXY, processes[1].pid), "stickyroute": (OURS, processes[2].pid)}
        results: dict[str, list[float]] = {peer: [] for peer in peers}
        try:
            cookies = {peer: cookie(port) for peer, (port, _) in peers.items()}
            for _ in range(rounds):
                for peer, (port, pid) in peers.items():
                    before = cpu(pid)
                    answered = load(port, seconds, cookies[peer])
                    used = (cpu(pid) - before) / answered * 1e6
                    results[peer].append(used)
                    speed = answered / seconds
                    print(f"{peer:12} {used:6.1f} µs/request  {speed:8.0f} requests/s", flush=True)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        ours, theirs = results["stickyroute"], results["haproxy"]
        ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
        print(f"{statistics.median(ratios):.2f} times HAProxy ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    rounds, seconds = [int(value) for value in sys.argv[1:]] + [5, 3][len(sys.argv) - 1 :]
    compare(rounds, seconds)


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(["api", "operator", "proxy", "cli"])
    main()
