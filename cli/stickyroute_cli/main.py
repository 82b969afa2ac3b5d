"""`stickyroute` and `kubectl stickyroute`: the command line.

One file for each command under `commands/`, imported only when it is called.
"""

import importlib
import os
import sys
from typing import Final

import click

from stickyroute_cli.release import release
from stickyroute_cli.terminal import InputError

COMMANDS: Final = {
    "demo": "Try StickyRoute here: three pods, one page, no cluster.",
    "keys": "Rotate the token keys of a fleet.",
    "serve": "Serve the StickyRoutes of a folder, without a cluster.",
}
"""Each command and its one-line help; module and function bear its name."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"stickyroute_cli.commands.{cmd_name}")
        except ModuleNotFoundError as error:
            raise InputError(f"{error.name} is not installed here: pip install 'stickyroute[cli]'") from None
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `stickyroute demo`.",
)
@click.version_option(release(), prog_name="stickyroute", message="%(prog)s %(version)s")
def stickyroute() -> None:
    """Session affinity for Kubernetes: each session stays on the pod that holds its state."""


def main() -> None:
    """Run the command line; never ends in a traceback.

    Exit status: 0 done, 1 a fault of ours, 2 something that the user can put right.
    """
    try:
        stickyroute()
    except Exception as error:
        if os.environ.get("STICKYROUTE_DEBUG"):
            raise
        click.echo(f"Error: {_told(error)}", err=True)
        sys.exit(1)


def _told(error: BaseException) -> str:
    what = str(error) or "no further words"
    return f"a fault of stickyroute itself ({type(error).__name__}: {what}); STICKYROUTE_DEBUG=1 shows where"
