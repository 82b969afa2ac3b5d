"""The proxy's entry: checks, event loop, signals."""

import asyncio
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Sequence

from stickyroute_proxy.lean import leave_out_client
from stickyroute_proxy.listen import StartError
from stickyroute_proxy.options import VERSION, Options, parse


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exit status 0 after a graceful end, 2 when it cannot start."""
    options = parse(arguments, os.environ)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    leave_out_client()
    try:
        check_parsers()
        status = _run(options)
    except StartError as error:
        sys.stderr.write(f"stickyroute-proxy: {error}\n")
        status = 2
    sys.exit(status)


def check_parsers() -> None:
    """Refuse to run on parsers that take what strict ones refuse. Raises StartError."""
    if importlib.util.find_spec("httptools") is None:
        raise StartError(
            "httptools is missing, the data path's HTTP parser: pip install 'stickyroute[proxy]'"
        )
    from aiohttp import http_parser  # noqa: PLC0415 - after the check, so that the message is ours

    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise StartError(
            "aiohttp runs without its C parser, and its Python parser takes malformed requests: install "
            "aiohttp from a wheel, and unset AIOHTTP_NO_EXTENSIONS"
        )


def _run(options: Options) -> int:
    # after the check of the parsers, which these modules need
    from stickyroute_proxy.process import Process  # noqa: PLC0415
    from stickyroute_proxy.serving import run  # noqa: PLC0415

    async def process() -> int:
        found = Process(options, VERSION)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, found.stop)
        return await found.run()

    return run(process())


if __name__ == "__main__":
    main()
