import sys

from tests.conformance.processes import HERE, differences, serving, told

AUTOBAHN = HERE / "autobahn.py"
BULK = ("9.*", "12.*", "13.*")
"""Large and compressed messages, nearly all of the run: the server passes each, so that one run tells."""


async def test_autobahn_judges_as_without_the_proxy(proxied):
    async with serving(sys.executable, HERE / "echoing.py") as port, proxied(port) as through:
        direct = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{port}", *BULK)
        seen = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{through}")
    bulk = {name: case for name, case in seen.items() if name not in direct}
    print(f"{len(seen)} cases of Autobahn")
    assert len(seen) >= 500
    assert not differences(direct, {name: seen[name] for name in direct})
    # Or it would be compared how two connections fail.
    assert sum(case["behavior"] == "OK" for case in direct.values()) >= 230
    assert not {
        name: case for name, case in bulk.items() if (case["behavior"], case["close"]) != ("OK", "OK")
    }
