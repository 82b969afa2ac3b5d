import asyncio

import pytest
from tests.scale import flood
from tests.scale.proxy import BODY, Pod, fleet

from stickyroute_proxy.affinity.token import Keyring

MIB = 1 << 20


@pytest.mark.parametrize(
    ("most", "moved", "faults"),
    [
        (114, 0, []),
        (115, 0, ["a flood of keys took 65.0 MiB, more than 64.0 MiB"]),
        (60, 2, ["2 sessions are not bound after a flood of keys"]),
    ],
)
def test_a_figure_that_is_missed_is_named(most, moved, faults):
    seen = flood.Flooded(1_000_000, 50.0, 50 * MIB, most * MIB, 10_000, moved)
    assert seen.faults == faults
    assert "20,000 a second" in seen.line


def test_each_request_of_a_flood_shows_another_key_or_none(monkeypatch):
    monkeypatch.setattr(flood, "KEYS", 600)
    requests = list(flood.flood(b"AQEx" + b"A" * 98 + b"Q"))
    assert len(requests) == 600
    none = flood.request("cookie")
    assert requests.count(none) == 100
    assert len({*requests}) == 501
    assert sum(b"X-Forwarded-For: 11." in one for one in requests) == 200


def test_the_snapshot_of_the_proxy_is_one():
    made = fleet({"web-0": 1})
    assert {*made.routes} == {"shop/cookie", "shop/header", "shop/address"}
    Keyring(made.keys)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self):
        self.written, self.closed = b"", False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    abort = close


async def test_a_client_asks_as_often_as_it_is_answered_and_ends():
    wire, pod_wire = Wire(), Wire()
    pod = Pod("web-0")
    pod.connection_made(pod_wire)
    client = flood.Client(iter([flood.request("cookie")] * 40), keep=True)
    client.connection_made(wire)
    while not wire.closed:
        pod.data_received(wire.written)
        wire.written, answers, pod_wire.written = b"", pod_wire.written, b""
        client.data_received(answers[:50])
        client.data_received(answers[50:])
    client.connection_lost(None)
    await client.done
    assert len(client.answers) == 40
    assert flood._POD.search(client.answers[39])[1] == b"web-0"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 no" + BODY, b""], ids=["refused", "closed"])
async def test_a_client_whose_requests_are_not_answered_well_says_so(answer):
    client = flood.Client(iter([flood.request("cookie")] * 3))
    client.connection_made(Wire())
    client.data_received(answer)
    client.connection_lost(None)
    with pytest.raises(flood.WrongError):
        await asyncio.wait_for(client.done, 5)
