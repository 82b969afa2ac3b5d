"""The event loop of a command: uvloop, ended by Ctrl-C and SIGTERM."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import uvloop

from stickyroute_cli.terminal import InputError, quiet_logs, told_by_loop
from stickyroute_proxy.listen import StartError
from stickyroute_proxy.main import check_parsers


def run(command: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run to the end. The first signal sets the event; the second ends at once. InputError: cannot run."""
    try:
        check_parsers()
    except StartError as error:
        raise InputError(str(error)) from None
    quiet_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(command))


async def _main(command: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(told_by_loop)
    stop = asyncio.Event()
    work = asyncio.ensure_future(command(stop))

    def told() -> None:
        if stop.is_set():
            work.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told)
    try:
        await work
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
