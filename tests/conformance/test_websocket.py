import re
import sys

from tests.component.control.processes import publishing, start
from tests.component.control.support import Authority
from tests.component.wire.harness import endpoint, fleet
from tests.component.wire.securely import certificate, secured
from tests.conformance.page import WITH, WITHOUT
from tests.conformance.processes import HERE, differences, serving, told
from tests.conformance.unwrapping import unwrapped

AUTOBAHN = HERE / "autobahn.py"
BULK = ("9.*", "12.*", "13.*")
"""Large and compressed messages, nearly all of the run: with two workers and by TLS they are left out.

They have a run of their own: the others' verdict on the closing handshake gives the server a second for it,
which it may not have while it inflates another's message.
"""
GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "large messages",
    "10": "automatic fragmentation",
    "12": "compression of many payloads",
    "13": "compression with many parameters",
}
SMALL = tuple(f"-{case}" for case in BULK)
HOST = "shop.example.com"


def counted(cases):
    """The (group, verdict) of each case, in the order of their numbers."""
    by_number = sorted(cases.items(), key=lambda case: [int(part) for part in case[0].split(".")])
    numbers = ((name.partition(".")[0], case["behavior"]) for name, case in by_number)
    return [(f"{number} {GROUPS[number]}", verdict) for number, verdict in numbers]


def right(direct):
    """How many cases came to what they ask: with few, it would be compared how two connections fail."""
    return sum(case["behavior"] == "OK" for case in direct.values())


async def test_autobahn_judges_as_without_the_proxy(proxied, page):
    async with serving(sys.executable, HERE / "echoing.py") as port, proxied(port) as through:
        direct = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{port}", *SMALL)
        seen = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{through}", *SMALL)
        bulk_direct = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{port}", *BULK)
        bulk = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{through}", *BULK)
    page.count("Autobahn", WITHOUT, counted(direct | bulk_direct))
    page.count("Autobahn", WITH, counted(seen | bulk))
    print(f"{len(seen)} cases of Autobahn, and {len(bulk)} with large messages")
    assert len(seen) + len(bulk) >= 500
    assert right(direct) >= 230
    assert not differences(direct, seen)
    assert not {name: case for name, case in bulk.items() if case["behavior"] != "OK"}
    assert not differences(_behaviors(bulk_direct), _behaviors(bulk))


async def test_autobahn_judges_alike_with_two_workers_and_by_tls(page, tmp_path):
    authority = Authority()
    files = authority.write(tmp_path / "tls")
    async with (
        serving(sys.executable, HERE / "echoing.py") as port,
        start(f"--tls-dir={files}", "--workers=2") as proxy,
        publishing(authority, proxy, secured(fleet(endpoint(port)), {"tls": certificate(HOST)})),
        unwrapped(int(re.search(r"by TLS at \S+:(\d+)", proxy.log)[1]), HOST) as through,
    ):
        direct, workers, tls = [
            await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{one}", *SMALL)
            for one in (port, proxy.http, through)
        ]
    page.count("Autobahn", "two workers", counted(workers))
    page.count("Autobahn", "TLS", counted(tls))
    print(f"{len(workers)} cases of Autobahn with two workers, {len(tls)} by TLS")
    assert right(direct) >= 230
    assert not differences(direct, workers)
    # Who closes the connection first is the unwrapper's there, not the proxy's.
    assert not differences(_behaviors(direct), _behaviors(tls))


def _behaviors(cases):
    return {name: case["behavior"] for name, case in cases.items()}
