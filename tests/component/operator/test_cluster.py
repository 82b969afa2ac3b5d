"""What the operator says of an API server that it cannot reach."""

import pytest
from kubernetes.aio import client
from tests.waiting import free_port

from stickyroute_operator.cluster import PODS, ApiError, Cluster


async def test_a_server_that_is_away_is_named_in_plain_words():
    """The client's own name its TLS context, and the address once more as a tuple."""
    port = free_port()
    cluster = Cluster(client.ApiClient(client.Configuration(host=f"https://127.0.0.1:{port}")))
    try:
        with pytest.raises(ApiError) as raised:
            await cluster.read(PODS, "default", "web")
    finally:
        await cluster.close()
    path = "/api/v1/namespaces/default/pods/web"
    assert str(raised.value) == f"GET {path}: no connection to 127.0.0.1 port {port}: Connection refused"
    assert raised.value.status == 0
