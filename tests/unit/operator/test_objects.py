from datetime import UTC, datetime

import pytest

from stickyroute_operator.objects import EndpointSlice, RouteObject, Service


def test_a_route_is_equal_whatever_its_status():
    manifest = {"metadata": {"name": "a", "namespace": "n", "generation": 2}, "spec": {"hosts": []}}
    with_status = RouteObject.from_manifest(manifest | {"status": {"hosts": "*"}})
    assert with_status == RouteObject.from_manifest(manifest)
    assert with_status.status == {"hosts": "*"}
    assert with_status != RouteObject.from_manifest(manifest | {"spec": {}})


@pytest.mark.parametrize(
    "created",
    ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", datetime(2026, 1, 1, tzinfo=UTC)],
)
def test_creation_times(created):
    manifest = {"metadata": {"name": "a", "creationTimestamp": created}}
    assert RouteObject.from_manifest(manifest).created == 1767225600.0


@pytest.mark.parametrize("kind", [RouteObject, Service, EndpointSlice])
@pytest.mark.parametrize("manifest", [{}, {"metadata": {}}, {"metadata": {"name": 3}}, {"metadata": "x"}])
def test_a_nameless_object_is_refused(kind, manifest):
    with pytest.raises(ValueError, match=r"metadata\.name"):
        kind.from_manifest(manifest)


@pytest.mark.parametrize("port", ["80", None, True, 80.5])
def test_a_service_port_that_is_no_number_is_refused(port):
    manifest = {"kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": port}]}}
    with pytest.raises(ValueError, match=r"Service web: spec\.ports\[0\]\.port"):
        Service.from_manifest(manifest)


def test_only_pods_give_an_identity():
    entry = {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Node", "name": "n", "uid": "u"}}
    piece = EndpointSlice.from_manifest({"metadata": {"name": "a"}, "endpoints": [entry]})
    assert (piece.endpoints[0].uid, piece.endpoints[0].pod) == ("", "")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (None, (True, True, False)),
        ({}, (True, True, False)),
        ({"ready": None, "serving": None, "terminating": None}, (True, True, False)),
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
        ({"ready": True, "serving": False}, (True, False, False)),
    ],
)
def test_absent_conditions_mean_what_kubernetes_says(conditions, expected):
    entry = {"addresses": ["10.0.0.1"], "conditions": conditions}
    read = EndpointSlice.from_manifest({"metadata": {"name": "a"}, "endpoints": [entry]}).endpoints[0]
    assert (read.ready, read.serving, read.terminating) == expected


def test_ports_without_a_number_are_left_out():
    manifest = {"metadata": {"name": "a"}, "ports": [{"name": "any"}, {"port": 80}]}
    assert EndpointSlice.from_manifest(manifest).ports == (("", 80),)
