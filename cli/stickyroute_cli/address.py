"""Where to listen, as people write it: `127.0.0.1:8080`, `[::1]:8080`, `:8080`, `8080`."""

import errno
import os
from typing import NamedTuple

import click


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """For a browser on this machine: by name where that is the same, since cookie jars prefer names."""
        return f"http://{self._place}/"

    @property
    def tls_url(self) -> str:
        return f"https://{self._place}/"

    @property
    def _place(self) -> str:
        local = self.host in ("127.0.0.1", "0.0.0.0", "::1", "::")
        return f"localhost:{self.port}" if local else str(self)


def parse_address(text: str) -> Address:
    """An address; a port alone means 127.0.0.1, an empty host all interfaces. ValueError with the remedy."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host = "127.0.0.1"
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, for example [::1]:8080")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"{text!r} is not HOST:PORT, for example 127.0.0.1:8080")
    return Address(host or "0.0.0.0", int(port))


class AddressType(click.ParamType[Address]):
    name = "host:port"

    def convert(
        self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        try:
            return parse_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def explain_listen(error: OSError, address: Address, option: str) -> str:
    """Why it is not possible to listen there, and what to do."""
    if error.errno == errno.EADDRINUSE:
        other = Address(address.host, address.port + 1 if address.port < 65535 else 8080)
        return (
            f"port {address.port} on {address.host} is already in use; choose another with {option} {other}"
        )
    if error.errno == errno.EACCES:
        return f"port {address.port} on {address.host} needs more rights; choose one above 1023 with {option}"
    # the text of the error number alone: socket repeats the address beside it
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return f"cannot listen on {address} ({reason}); choose an address of this machine with {option} HOST:PORT"
