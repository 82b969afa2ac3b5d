"""Whether decisions hold at full scale, where the tests take a sample; what holds not ends with status 1.

    python -m tests.scale

- 100,000 bound, hashed and failed-over requests are decided alike by two processes with equal snapshots,
  keys and health views.
- 1,000,000 distinct keys, hashed, forged and none at all, grow the process by at most 64 MiB, and leave all
  bound sessions bound.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "api"), str(ROOT / "proxy")]

from tests.unit.proxy.fleets import Client, Proxy, Request, fleet, persistence, pods, route, rule  # noqa: E402
from tests.unit.proxy.test_agreement import differing, say  # noqa: E402

from stickyroute_proxy.affinity.choose import choose  # noqa: E402

REQUESTS = 100_000
KEYS = 1_000_000
SESSIONS = 10_000
ROOM = 64 << 20


def agreement() -> bool:
    """What two processes say of the same requests: one that knows their past, one that does not."""
    paths = os.pathsep.join(sys.path)
    call = (
        "import json; from tests.unit.proxy.test_agreement import say;"
        f" print(json.dumps(say(7, {REQUESTS}, 1, knows=False)))"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", call], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )
    mine = say(7, REQUESTS, 2, knows=True)
    theirs = json.loads(other.communicate()[0])
    found = len(differing(mine, theirs))
    print(
        f"{len(mine):,} decisions on {REQUESTS:,} requests, decided otherwise by the other process: {found}"
    )
    return not found and len(mine) == len(theirs)


def flood() -> bool:
    """So many keys that nobody knows, while sessions are bound."""
    hashed = persistence(type="QueryParam", cookie=None, name="room")
    rooms = route(rule(persistence=hashed), name="rooms", hosts=("rooms.example.com",))
    proxy = Proxy(fleet([route(), rooms], web=pods(*(f"web-{n}" for n in range(10)))))
    clients = [Client() for _ in range(SESSIONS)]
    homes = [client.ask(proxy).endpoint for client in clients]
    for client in clients:
        client.ask(proxy)
    place = proxy.rule(host=b"rooms.example.com")
    before = _resident()
    for number in range(KEYS):
        match number % 3:
            case 0:
                choose(place, Request(query=b"room=%d" % number), proxy.now, proxy.random)
            case 1:
                proxy.ask(b"%0103d" % number)
            case 2:
                proxy.ask()
        if not number % 10_000:
            proxy.tick(0.25)
    grown = _resident() - before
    moved = sum(client.ask(proxy).endpoint is not home for client, home in zip(clients, homes, strict=True))
    print(f"{KEYS:,} keys: {grown / (1 << 20):.1f} MiB more; of {SESSIONS:,} sessions moved: {moved}")
    return grown <= ROOM and not moved


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(not all([agreement(), flood()]))
