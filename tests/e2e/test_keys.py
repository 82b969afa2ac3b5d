"""Token keys change while sessions go on, and nobody notices."""

import base64
import json

from tests.e2e import kube
from tests.e2e.load import amnesia, failures, moves, summary


def keys(release):
    """{number: whether it has sealed} of the Secret that holds them."""
    secret = kube.get("-n", release.namespace, "secret", f"{release.name}-token-keys")
    content = json.loads(base64.b64decode(secret["data"]["keys.json"]))
    return {entry["id"]: "seals_from" in entry for entry in content}


def rotated(release):
    """Orders a rotation, and returns when the new key seals."""
    before = keys(release)
    secret = f"{release.name}-token-keys"
    kube.kubectl("-n", release.namespace, "annotate", "secret", secret, "stickyroute.dev/rotate=now")
    kube.until(
        "another key that seals",
        lambda: all(keys(release).values()) and len(keys(release)) == len(before) + 1,
        60,
    )
    return keys(release)


async def test_a_rotation_by_command_loses_no_session(application):
    release = application.release
    before = keys(release)
    async with application.crowd(60, fresh=True) as crowd:
        await crowd.each(2)

        async def twice():
            for _ in range(2):
                await kube.off(rotated, release)
            return await kube.off(keys, release)

        after = await crowd.during(100, twice(), at_least=30)
        print(f"\n{summary(crowd.records)}; keys {sorted(before)} before, {sorted(after)} after")
        assert len(after) == len(before) + 2
        assert failures(crowd.records) == []
        assert moves(crowd.records) == []
        assert amnesia(crowd.records) == []
        assert [record for record in crowd.records if record.notice] == []
    secret = kube.get("-n", release.namespace, "secret", f"{release.name}-token-keys")
    assert "stickyroute.dev/rotate" not in secret["metadata"].get("annotations", {})
    log = kube.kubectl("-n", release.namespace, "logs", f"deployment/{release.deployment('operator')}")
    assert f"token key {max(after)} seals from now on" in log
    content = json.loads(base64.b64decode(secret["data"]["keys.json"]))
    assert not [entry["id"] for entry in content if entry["key"] in log], "no key is told"
