"""Proxies with a store, before applications that give out keys."""

import asyncio

from tests.component.wire.apps import App
from tests.component.wire.harness import eventually

from stickyroute_api.settings import Settings, Store

STORED = {"type": "AppCookie", "name": "ID", "learn": "Store"}
SCOPE = "shop/shop/web"


def pods():
    return [App(name) for name in (b"a", b"b", b"c")]


def store_at(port, **fields):
    return Settings(store=Store(address=f"127.0.0.1:{port}", **fields))


def lookups(*proxies):
    found = {}
    for proxy in proxies:
        for result, count in proxy.plane.counters.store_lookups.items():
            found[str(result)] = found.get(str(result), 0) + count
    return found


async def reached(*proxies):
    await eventually(lambda: all(proxy.plane.counters.store_reachable for proxy in proxies))


async def written(proxy):
    await eventually(lambda: not proxy.plane.memory._link._entries)
    await asyncio.sleep(0.02)


def forget(proxy):
    """As a proxy that has just started."""
    proxy.plane.memory._known.clear()
