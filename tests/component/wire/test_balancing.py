import pytest
from tests.component.wire.harness import get, serving

from stickyroute_api.snapshot import Balancing, HashOn, Persistence


def named(name):
    async def script(peer):
        while await peer.request():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name)

    return script


@pytest.mark.parametrize(
    ("hash_on", "request_"),
    [
        (HashOn(type="SourceIP"), lambda _: get()),
        (HashOn(type="Header", name="X-User"), lambda user: get("/", f"x-user: {user}")),
        (HashOn(type="QueryParam", name="user"), lambda user: get(f"/?a=b&user={user}")),
        (HashOn(type="Cookie", name="user"), lambda user: get("/", f"Cookie: a=b; user={user}")),
    ],
    ids=lambda given: getattr(given, "type", ""),
)
async def test_requests_without_persistence_go_by_the_hashed_value(hash_on, request_):
    rule = {"persistence": Persistence(), "balancing": Balancing(algorithm="Hash", hash_on=hash_on)}
    async with serving(named(b"a"), named(b"b"), **rule) as (proxy, *_):
        homes = []
        for user in (*range(12), *range(12)):
            raw = await proxy.connect()
            await raw.send(request_(user))
            homes.append((await raw.answer())[1])
            await raw.close()
    assert homes[:12] == homes[12:]
    assert len(set(homes)) == (1 if hash_on.type == "SourceIP" else 2)


async def test_a_value_whose_pod_refuses_goes_to_the_next_of_its_own():
    rule = {
        "persistence": Persistence(),
        "balancing": Balancing(algorithm="Hash", hash_on=HashOn(type="Header", name="X-User")),
    }
    async with serving(named(b"a"), named(b"b"), named(b"c"), **rule) as (proxy, first, *_):
        await first.stop()
        homes = []
        for user in (*range(12), *range(12)):
            raw = await proxy.connect()
            await raw.send(get("/", f"x-user: {user}"))
            homes.append((await raw.answer())[1])
            await raw.close()
    assert homes[:12] == homes[12:]
    assert set(homes) == {b"b", b"c"}
