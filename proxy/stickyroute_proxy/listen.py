"""Addresses and listening sockets."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

BACKLOG: Final = 4096
"""Connections of clients that the kernel holds until they are accepted."""


class StartError(Exception):
    """The process cannot start; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every address of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address, what: str, *, backlog: int = 128, shared: bool = False) -> socket.socket:
    """A listening TCP socket; the kernel spreads connections over those that share an address.

    Raises StartError when the address is taken or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host or not address.host else socket.AF_INET
    try:
        return socket.create_server(
            (address.host, address.port),
            family=family,
            backlog=backlog,
            reuse_port=shared,
            dualstack_ipv6=not address.host and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise busy(what, address, error) from None


class Ports:
    """Where clients connect, by the name of the option: `http`."""

    def __init__(self, addresses: Mapping[str, Address], *, shared: bool) -> None:
        """`shared`: they may be opened more than once."""
        self._addresses = dict(addresses)
        self._shared = shared

    def open(self) -> dict[str, socket.socket]:
        """A listening socket for each. Raises StartError."""
        opened: dict[str, socket.socket] = {}
        try:
            for what, address in self._addresses.items():
                opened[what] = listen(address, what, backlog=BACKLOG, shared=self._shared)
                # the next one shares the port that the system chose for port 0
                self._addresses[what] = replace(address, port=bound(opened[what]).port)
        except StartError:
            for listener in opened.values():
                listener.close()
            raise
        return opened


def bound(listener: socket.socket) -> Address:
    """Where it listens: with the port that the system chose for port 0."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def busy(what: str, address: Address, error: OSError) -> StartError:
    """Why `--what` cannot listen there."""
    # the text of the error number alone: socket repeats the address beside it
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
    return StartError(f"cannot listen at {address} ({reason}): set another address with --{what} HOST:PORT")
