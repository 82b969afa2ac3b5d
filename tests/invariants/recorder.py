"""A member of the fleet that serves nobody and prints every snapshot that it is pushed, without its keys.

Run in the product's image, beside proxies on a cluster, so that the checker learns what each snapshot held:
listed as a proxy that is not ready, with the proxies' certificate in TLS.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from aiohttp import web

from stickyroute_proxy.control import Control
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.listen import Address, listen
from stickyroute_proxy.receive import Receiver
from stickyroute_proxy.tls import Files, SecureSite


def told(snapshot):
    """A snapshot without its keys and certificates, as far as the checker reads it."""
    return {
        "version": list(snapshot.version),
        "routes": {key: route.model_dump(mode="json") for key, route in snapshot.routes.items()},
        "endpoints": {
            key: [one.model_dump(mode="json") for one in endpoints]
            for key, endpoints in snapshot.endpoints.items()
        },
    }


class Nowhere:
    """A keeper that keeps nothing."""

    def save(self, _snapshot):
        pass


async def main():
    async def take(snapshot, _delta):
        line = {"time": time.time(), "event": "published", **told(snapshot)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    async def report():
        return None

    receiver = Receiver(fleet=os.environ["FLEET"], use=take, keeper=Nowhere())
    app = Control(receiver, "recorder", "recorder", report, Encoder().encode).application()
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = SecureSite(runner, listen(Address("0.0.0.0", 9443), "control"), Files(Path(os.environ["TLS"])))
    await site.start()
    await site.follow()


if __name__ == "__main__":
    asyncio.run(main())
