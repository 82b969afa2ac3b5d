"""Whose word about clients is taken: the addresses of the proxies before this one."""

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

_REMEMBERED: Final = 4096
"""How many addresses are remembered, trusted or not."""


class Trust:
    """A set of addresses, given as CIDRs."""

    def __init__(self, cidrs: tuple[str, ...] = ()) -> None:
        """Raises ValueError naming the one that is none."""
        self.cidrs = cidrs
        networks = []
        for cidr in cidrs:
            try:
                networks.append(ip_network(cidr, strict=False))
            except ValueError as error:
                raise ValueError(f"settings.trusted_proxies: {error}") from None

        @lru_cache(maxsize=_REMEMBERED)
        def holds(address: str) -> bool:
            found = ip_address(address)
            return any(found in network for network in networks)

        self._holds = holds

    def holds(self, address: str) -> bool:
        """Whether it is one of them."""
        return bool(self.cidrs) and self._holds(address)
