import sys

from tests.conformance.processes import HERE, differences, serving, told

AUTOBAHN = HERE / "autobahn.py"


async def test_autobahn_judges_as_without_the_proxy(proxied):
    async with serving(sys.executable, HERE / "echoing.py") as port, proxied(port) as through:
        direct = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{port}")
        seen = await told(sys.executable, AUTOBAHN, f"ws://127.0.0.1:{through}")
    print(f"{len(direct)} cases of Autobahn")
    assert len(direct) >= 500
    assert not differences(direct, seen)
    # Or it would be compared how two connections fail.
    assert sum(case["behavior"] == "OK" for case in direct.values()) >= 500
