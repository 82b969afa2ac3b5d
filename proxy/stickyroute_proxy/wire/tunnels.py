"""The open tunnels of one process, and the ends that are ordered for them."""

from collections.abc import Iterator
from math import inf
from random import Random
from typing import Final

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.ends import end
from stickyroute_proxy.wire.tunnel import Home, Tunnel

SPREAD: Final = 5.0
"""Seconds over which tunnels that end for one cause are spread: their clients all come back."""


class Tunnels:
    """By what they were opened by."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._homes: dict[Home, set[Tunnel]] = {}
        self._ordered: dict[Tunnel, tuple[float, BindingReason]] = {}
        """Those that end soon: when, on the monotonic clock, and why."""
        self._ending: set[Tunnel] = set()

    def __iter__(self) -> Iterator[Tunnel]:
        for tunnels in tuple(self._homes.values()):
            yield from tuple(tunnels)

    def __len__(self) -> int:
        return sum(map(len, self._homes.values()))

    def add(self, tunnel: Tunnel) -> None:
        self._homes.setdefault(tunnel.home, set()).add(tunnel)

    def discard(self, tunnel: Tunnel) -> None:
        tunnels = self._homes.get(tunnel.home)
        if tunnels is not None:
            tunnels.discard(tunnel)
            if not tunnels:
                del self._homes[tunnel.home]
        self._ordered.pop(tunnel, None)
        self._ending.discard(tunnel)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many are open, by scope and `Endpoint.id`."""
        found: dict[tuple[str, str], int] = {}
        for home, tunnels in self._homes.items():
            key = home.scope.id, home.endpoint.id
            found[key] = found.get(key, 0) + len(tunnels)
        return found

    def order(self, clock: float, now: float) -> None:
        """Order the end of those whose binding has ended; `clock` is in Unix seconds, `now` monotonic."""
        for home, tunnels in self._homes.items():
            found = end(home.scope, home.endpoint, home.epoch, clock)
            absolute = home.scope.absolute
            if found is None and absolute == inf:
                continue
            for tunnel in tunnels:
                if found is not None and tunnel.opened < found.before:
                    self._order(tunnel, found.reason, now)
                elif tunnel.begun <= clock - absolute:
                    self._order(tunnel, BindingReason.ABSOLUTE_TIMEOUT, now)

    def _order(self, tunnel: Tunnel, reason: BindingReason, now: float) -> None:
        """Have it end within SPREAD; once ordered, no end is put off."""
        if tunnel.reason is None and tunnel not in self._ordered:
            self._ordered[tunnel] = now + self._random.random() * SPREAD, reason

    def end(self, now: float) -> None:
        """End those whose time has come, and see to it that those do end; four times a second."""
        for tunnel, (due, reason) in tuple(self._ordered.items()):
            if due <= now:
                del self._ordered[tunnel]
                self._ending.add(tunnel)
                tunnel.end(reason, now)
        for tunnel in tuple(self._ending):
            tunnel.expire(now)
