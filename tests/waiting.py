"""What tests wait for, and where a server may listen."""

import asyncio
import inspect
import socket
from itertools import cycle
from os import getpid

_FIRST = 10240 + getpid() % 64 * 300
_PORTS = cycle(range(_FIRST, _FIRST + 300))
"""This process's own, in turn. None that systems give to connections and to who asks for any port: those are
taken before they are wanted, or while a server that restarts is away.
"""


async def until(condition, seconds=10.0, what="the condition"):
    """Wait until a condition holds, which may be one to await. AssertionError where it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                holds = condition()
                if inspect.isawaitable(holds):
                    holds = await holds
                if holds:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true in {seconds} s") from None


def free_port(host="127.0.0.1"):
    """A port that nobody listens on at this address of the machine; `""`: at any."""
    return next(port for port in _PORTS if _is_free(host, port))


def _is_free(host, port):
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True
