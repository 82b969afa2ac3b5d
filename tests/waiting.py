"""What tests wait for, and where a server may listen."""

import asyncio
import inspect
import socket


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
    with socket.create_server((host, 0)) as listener:
        return listener.getsockname()[1]
