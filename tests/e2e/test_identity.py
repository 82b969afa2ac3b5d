"""A binding is to a pod, not to an address: whoever comes to an old address inherits nothing."""

import uuid

from tests.e2e import kube, manifests
from tests.e2e.load import amnesia, failures, moves, sessions

PORT = 18081


def hostpod(release, name):
    """A pod on the node's own address and port."""
    spec = manifests.pod(release.image, "code", port=PORT, hostNetwork=True)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "host"}},
        "spec": spec,
    }


async def test_a_new_pod_on_the_same_address_inherits_no_session(release, dungeon):
    host = "host.stickyroute.test"
    other = manifests.pod(release.image, "code", port=PORT)
    kube.apply(
        dungeon,
        manifests.code("code", "backend.py"),
        hostpod(release, "host-1"),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "other", "labels": {"app": "host"}},
            "spec": other,
        },
        manifests.service("host"),
        manifests.route("host", host, ["host"]),
    )
    kube.until("two endpoints", lambda: endpoints(dungeon) == {"host-1", "other"}, 60)
    async with release.crowd(host, 40) as crowd:
        await crowd.each(3)
        theirs = sessions(crowd.records)
        assert theirs["host-1"] >= 10
        await kube.off(
            kube.kubectl, "-n", dungeon, "delete", "pod", "host-1", "--grace-period=1", "--wait=true"
        )
        await kube.off(kube.apply, dungeon, hostpod(release, "host-2"))
        await kube.off(kube.until, "its successor", lambda: endpoints(dungeon) == {"host-2", "other"}, 60)
        records = await crowd.each(5)
        assert failures(records) == []
        moved = moves(crowd.records)
        assert {before for _, before, _, _ in moved} == {"host-1"}
        assert len(moved) == theirs["host-1"]
        assert {notice for *_, notice in moved} == {"PodTerminated"}
        assert amnesia(crowd.records) == []
        firsts = {}
        for record in records:
            firsts.setdefault(record.client, record)
        assert all(first.notice for first in firsts.values() if first.pod == "host-2")
    kube.kubectl(
        "-n", dungeon, "delete", "stickyroute/host", "service/host", "pod/host-2", "pod/other", "--wait=false"
    )


def endpoints(namespace):
    """The pods that the route has as Serving."""
    found = kube.get("-n", namespace, "stickyroute", "host").get("status", {}).get("endpoints", [])
    return {endpoint["pod"] for endpoint in found if endpoint["state"] == "Serving"}


async def test_a_pooled_connection_is_not_inherited_either(release, place):
    """One real process, so that an old connection would still work, behind an endpoint whose UID changes."""
    host = "pooled.stickyroute.test"
    kube.apply(
        place,
        manifests.code("code", "backend.py"),
        manifests.deployment("web", 1, manifests.pod(release.image, "code")),
        manifests.service("pooled", 8000, selector=False),
        manifests.route("pooled", host, ["pooled"]),
    )
    kube.rollout(place, "web")
    (pod,) = kube.pods(place, "app=web").values()

    def identity(number):
        uid = str(uuid.UUID(int=number + 1))
        return manifests.endpoint_slice(
            "pooled-1", "pooled", pod["status"]["podIP"], 8000, uid=uid, pod_name=f"pooled-{number}"
        )

    kube.apply(place, identity(0))
    kube.wait_ready(place, "pooled")
    async with release.crowd(host, 10) as crowd:
        seen = {record.connection for record in await crowd.each(4)}
        for number in range(1, 4):
            await kube.off(kube.apply, place, identity(number))

            def programmed(name=f"pooled-{number}"):
                route = kube.get("-n", place, "stickyroute", "pooled")["status"]
                return [e["pod"] for e in route["endpoints"]] == [name] and kube.condition(
                    place, "pooled", "Ready"
                )

            await crowd.each(2)  # keeps the pools warm while the change is on its way
            await kube.off(kube.until, "the new identity", programmed, 20)
            crowd_before = len(crowd.records)
            await crowd.each(1)
            fresh = {record.connection for record in crowd.records[crowd_before:]}
            assert failures(crowd.records) == []
            assert not fresh & seen, "a connection made for another pod's identity was used again"
            seen |= {record.connection for record in crowd.records}
        noticed = [record for record in crowd.records if record.notice]
        assert {record.notice for record in noticed} == {"PodTerminated"}
        assert len(noticed) == 3 * 10, "each session is told once for each identity that went"
