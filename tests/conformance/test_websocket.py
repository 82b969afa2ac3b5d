import re
import sys

from tests.component.control.processes import publishing, start
from tests.component.control.support import Authority
from tests.component.wire.harness import endpoint, fleet
from tests.component.wire.securely import certificate, secured
from tests.conformance.processes import HERE, differences, serving, told
from tests.conformance.unwrapping import unwrapped

AUTOBAHN = HERE / "autobahn.py"
BULK = ("9.*", "12.*", "13.*")
"""Large and compressed messages, nearly all of the run: the server passes each, so that one run tells.

They have a run of their own: the others' verdict on the closing handshake gives the server a second for it,
which it may not have while it inflates another's message.
"""
SMALL = tuple(f"-{case}" for case in BULK)
HOST = "shop.example.com"


def right(direct):
    """How many cases came to what they ask: with few, it would be compared how two connections fail."""
    return sum(case["behavior"] == "OK" for case in direct.values())


async def test_autobahn_judges_as_without_the_proxy(proxied):
    async with serving(sys.executable, HERE / "echoing.py") as port, proxied(port) as through:
        direct = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{port}", *SMALL)
        seen = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{through}", *SMALL)
        bulk = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{through}", *BULK)
    print(f"{len(seen)} cases of Autobahn, and {len(bulk)} with large messages")
    assert len(seen) + len(bulk) >= 500
    assert right(direct) >= 230
    assert not differences(direct, seen)
    assert not {name: case for name, case in bulk.items() if case["behavior"] != "OK"}


async def test_autobahn_judges_alike_with_two_workers_and_by_tls(tmp_path):
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
    print(f"{len(workers)} cases of Autobahn with two workers, {len(tls)} by TLS")
    assert right(direct) >= 230
    assert not differences(direct, workers)
    # Who closes the connection first is the unwrapper's there, not the proxy's.
    assert not differences(_behaviors(direct), _behaviors(tls))


def _behaviors(cases):
    return {name: case["behavior"] for name, case in cases.items()}
