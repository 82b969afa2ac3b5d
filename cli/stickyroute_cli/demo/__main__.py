"""`python -m stickyroute_cli.demo`: one pod of the demo application."""

import asyncio
import os
import sys

from stickyroute_cli.demo.config import Config, EnvironmentVariableError
from stickyroute_cli.demo.server import serve


def main() -> int:
    """Run until told to stop; the exit status, 2 for a setting that cannot be used."""
    try:
        asyncio.run(serve(Config.of(os.environ)))
    except (EnvironmentVariableError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)  # noqa: T201 - a message to a person
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
