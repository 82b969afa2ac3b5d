"""The life of one pod's process: start, serve, and leave as a good application does."""

import asyncio
import contextlib
import os
import signal
import sys

from aiohttp import web

from stickyroute_cli.demo.app import Demo
from stickyroute_cli.demo.config import Config

FINISH = 25.0
"""Seconds that requests in flight get after the last connection was accepted."""
HURRY = 0.5
"""The same when it is to be at once."""


async def serve(config: Config) -> None:
    """Answer until SIGTERM, then accept for `config.accept_for` seconds more, finish what runs and return.

    SIGINT, or standard input's end when tied to it, skips the accepting. OSError when the port cannot be had.
    """
    demo = Demo(config)
    loop = asyncio.get_running_loop()
    leave, at_once = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, leave.set)
    loop.add_signal_handler(signal.SIGINT, at_once.set)
    if config.tied:
        _watch_input(at_once)
    runner = web.AppRunner(
        demo.app(), handle_signals=False, access_log=None, shutdown_timeout=FINISH, keepalive_timeout=75
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port, reuse_address=True).start()
        host, port = runner.addresses[0][:2]
        print(f"listening on {host} {port}", flush=True)  # noqa: T201 - the supervisor reads it
        await _first(leave, at_once)
        demo.ending = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(at_once.wait(), config.accept_for)
    finally:
        await _finish(asyncio.ensure_future(runner.cleanup()), at_once)


async def _finish(cleanup: asyncio.Future[None], at_once: asyncio.Event) -> None:
    """Let requests end, but not for long once it is to be at once."""
    waiting = asyncio.ensure_future(at_once.wait())
    await asyncio.wait((cleanup, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.wait((cleanup,), timeout=HURRY)
    cleanup.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cleanup


async def _first(*events: asyncio.Event) -> None:
    waiters = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    for waiter in waiters:
        waiter.cancel()


def _watch_input(ended: asyncio.Event) -> None:
    """Set `ended` once standard input, a pipe from the parent, has no writer any more."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 1024):
            loop.remove_reader(descriptor)
            ended.set()

    loop.add_reader(descriptor, readable)
