"""Addresses and listening sockets."""

import socket
from dataclasses import dataclass


class StartError(Exception):
    """The process cannot start; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every address of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address, what: str) -> socket.socket:
    """A listening TCP socket. Raises StartError when the address is taken or is none of this machine's."""
    family = socket.AF_INET6 if ":" in address.host or not address.host else socket.AF_INET
    try:
        return socket.create_server(
            (address.host, address.port),
            family=family,
            backlog=128,
            dualstack_ipv6=not address.host and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise busy(what, address, error) from None


def bound(listener: socket.socket) -> Address:
    """Where it listens: with the port that the system chose for port 0."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def busy(what: str, address: Address, error: OSError) -> StartError:
    """Why `--what` cannot listen there."""
    return StartError(
        f"cannot listen at {address} ({error.strerror or error}): set another address with --{what} HOST:PORT"
    )
