"""`python -m tests.differential`: the corpus through StickyRoute, HAProxy and nginx.

Writes docs/differential.md. Fails when a class of differences has no reason in `reasons`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from tests.component.wire.corpus.answers import every_answer
from tests.component.wire.corpus.asking import Teller, ask_all
from tests.component.wire.corpus.build import every_request
from tests.component.wire.corpus.run import Record, Recorder, send_all
from tests.component.wire.harness import Proxy, endpoint, fleet
from tests.differential import outcome
from tests.differential.differences import Differences
from tests.differential.peers import PEERS, Peer

from stickyroute_api.snapshot import Persistence

DOCUMENT = Path("docs/differential.md")
PATIENCE = 4.0
"""Seconds: beyond the peers' timeouts, so that only what they hold open for good counts as held open."""
REQUESTS = every_request()
ANSWERS = every_answer()


@asynccontextmanager
async def running(peer: Peer | None, backend: int) -> AsyncIterator[int]:
    """The proxy before that backend, or ours: its port."""
    if peer is not None:
        with peer.before(backend) as port:
            yield port
        return
    proxy = await Proxy().start(fleet(endpoint(backend), persistence=Persistence(type="None")))
    yield proxy.port
    await proxy.plane.drain(0, 1)


async def requests_through(peer: Peer | None) -> dict[int, str]:
    record = Record()
    server = await asyncio.get_running_loop().create_server(lambda: Recorder(record), "127.0.0.1", 0)
    async with running(peer, server.sockets[0].getsockname()[1]) as port:
        results = await send_all(port, [(message, ()) for message in REQUESTS], PATIENCE)
    server.close()
    return {one.number: outcome.of_request(one, results[one.number], record) for one in REQUESTS}


async def answers_through(peer: Peer | None) -> dict[int, str]:
    told = {one.number: one for one in ANSWERS}
    server = await asyncio.get_running_loop().create_server(lambda: Teller(told), "127.0.0.1", 0)
    async with running(peer, server.sockets[0].getsockname()[1]) as port:
        got = await ask_all(port, ANSWERS, PATIENCE)
    server.close()
    return {one.number: outcome.of_answer(one, got[one.number]) for one in ANSWERS}


async def compare() -> Differences:
    found = Differences()
    for side, messages, through in (
        ("requests", REQUESTS, requests_through),
        ("answers", ANSWERS, answers_through),
    ):
        ours = await through(None)
        for peer in PEERS:
            if peer.installed:
                theirs = await through(peer)
                for message in messages:
                    found.take(side, peer.name, message, ours[message.number], theirs[message.number])
                print(f"{peer.name}: {len(messages)} {side}", flush=True)
    return found


def main() -> None:
    found = uvloop.run(compare())
    DOCUMENT.write_text(found.document())
    print(f"wrote {DOCUMENT}")
    unexplained = found.unexplained()
    if unexplained:
        sys.exit("\n".join(unexplained))


main()
