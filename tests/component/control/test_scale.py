"""What a pod change costs a proxy of 1,000 routes and 10,000 endpoints. Printed, not judged."""

import asyncio
import random
import statistics
import time

from tests.component.control.support import FLEET, snapshot, with_pods

from stickyroute_api.snapshot import Delta
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.keep import Keep, load
from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.table import build
from stickyroute_proxy.wire.listener import DataPlane

CHANGES = 20


async def test_a_pod_change_among_ten_thousand(tmp_path):
    plane, path = DataPlane(), tmp_path / "snapshot.json"
    kept = Keep(path, Encoder())

    async def use(new, _delta):
        plane.apply(build(new, plane.table, time.time(), random.Random(1)))

    receiver = Receiver(fleet=FLEET, use=use, keeper=kept)
    held = snapshot(routes=1000, pods=10)
    await receiver.put(held.model_dump_json().encode())
    await kept.close()

    longest = 0.0

    async def watch():
        """The longest time on the processor between two turns of this task."""
        nonlocal longest
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, time.thread_time() - last), time.thread_time()

    watching = asyncio.create_task(watch())
    holds = []
    for number in range(CHANGES):
        wanted = with_pods(held, 9, f"shop/web-{number}:8080")
        delta = Delta.between(held, wanted).model_dump_json().encode()
        await asyncio.sleep(0)
        longest = 0.0
        await receiver.patch(delta)
        await kept.close()
        await asyncio.sleep(0)
        holds.append(longest * 1000)
        held = wanted
    watching.cancel()
    print(
        "one pod of 10,000, applied and kept: the loop is held for "
        f"{statistics.median(holds):.1f} ms at the median, {max(holds):.1f} ms at most, of {CHANGES}"
    )
    assert receiver.snapshot == held
    assert plane.table.version == held.version
    assert load(path, FLEET) == held
