from datetime import UTC, datetime

import pytest

from stickyroute_operator.cluster import CONFLICT, ApiError
from stickyroute_operator.epoch import Superseded, raise_epoch
from stickyroute_operator.fleet import proxies, zones
from stickyroute_operator.objects import EndpointSlice
from stickyroute_operator.publish import ProxyAddress


def control(*endpoints, name="c-1", service="sr-proxy-control", namespace="system", family="IPv4"):
    return EndpointSlice.from_manifest(
        {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": family,
            "ports": [{"name": "metrics", "port": 9090}, {"name": "control", "port": 9443}],
            "endpoints": list(endpoints),
        }
    )


def proxy(pod, address, **conditions):
    return {"addresses": [address], "conditions": conditions, "targetRef": {"kind": "Pod", "name": pod}}


def test_all_proxies_are_found_and_only_ready_ones_are_current():
    found = proxies(
        [
            control(
                proxy("a", "10.0.0.1", ready=True),
                proxy("b", "10.0.0.2", ready=False),
                proxy("c", "10.0.0.3", ready=False, serving=True, terminating=True),
            ),
            control(proxy("x", "10.0.0.9"), service="other", name="o"),
            control(proxy("y", "10.0.0.8"), namespace="elsewhere"),
        ],
        "system",
        "sr-proxy-control",
    )
    assert found == {
        "a": ProxyAddress("10.0.0.1", 9443, True),
        "b": ProxyAddress("10.0.0.2", 9443, False),
        "c": ProxyAddress("10.0.0.3", 9443, False),
    }


def test_a_proxy_counts_once():
    slices = [
        control(proxy("a", "fd00::1", ready=True), name="six", family="IPv6"),
        control(proxy("a", "10.0.0.1", ready=True), name="four"),
    ]
    assert proxies(slices, "system", "sr-proxy-control") == {"a": ProxyAddress("10.0.0.1", 9443, True)}


class Lease:
    def __init__(self, conflicts=0, **spec):
        self.manifest = {"metadata": {"name": "l", "namespace": "n", "resourceVersion": "1"}}
        if spec:
            self.manifest["spec"] = spec
        self.conflicts = conflicts

    async def read(self, resource, namespace, name):
        return {**self.manifest, "spec": dict(self.manifest.get("spec") or {})}

    async def replace(self, resource, manifest):
        if self.conflicts:
            self.conflicts -= 1
            self.manifest.setdefault("spec", {})["leaseTransitions"] = 41
            raise ApiError("changed", CONFLICT)
        self.manifest = manifest
        return manifest


async def epoch(lease, **more):
    return await raise_epoch(lease, "n", "l", "me", now=lambda: datetime.now(UTC), **more)


async def test_each_start_raises_the_epoch():
    lease = Lease()
    assert [await epoch(lease), await epoch(lease)] == [1, 2]
    assert lease.manifest["spec"]["holderIdentity"] == "me"
    assert lease.manifest["spec"]["leaseTransitions"] == 2


async def test_a_proxy_that_holds_a_higher_epoch_is_passed():
    assert await epoch(Lease(leaseTransitions=3, holderIdentity="me"), above=9, must_hold=True) == 10


async def test_a_concurrent_start_is_read_anew():
    assert await epoch(Lease(conflicts=1)) == 42


async def test_another_holder_ends_this_one():
    with pytest.raises(Superseded, match="other"):
        await epoch(Lease(leaseTransitions=3, holderIdentity="other"), must_hold=True)


def test_zones_of_proxies_are_known_where_the_cluster_has_any():
    here = {**proxy("a", "10.0.0.1"), "zone": "eu-1"}
    slices = [
        control(here, proxy("b", "10.0.0.2")),
        control({**here, "zone": "x"}, service="other", name="o"),
    ]
    assert zones(slices, "system", "sr-proxy-control") == {"a": "eu-1"}
