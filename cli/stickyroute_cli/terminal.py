"""What is said on the terminal: news on standard output, trouble on standard error, never a traceback."""

import asyncio
import logging
from typing import Any

import click


class InputError(click.ClickException):
    """Something that the user can put right; the text says how. Exit status 2."""

    exit_code = 2


def say(text: str) -> None:
    """News, as it is."""
    click.echo(text)


def complain(text: str) -> None:
    """Trouble that does not stop us."""
    click.secho(text, fg="yellow", err=True)


class _Lines(logging.Handler):
    """Log records as one line each: what went wrong, without where in our code."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text} ({_named(record.exc_info[1])})"
        complain(f"{record.levelname.lower()}: {text}")


def quiet_logs() -> None:
    """Warnings and worse of all parts become lines of trouble."""
    logging.basicConfig(handlers=[_Lines()], level=logging.WARNING, force=True)


def told_by_loop(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler that speaks in one line."""
    error = context.get("exception")
    complain(f"error: {context.get('message', 'fault in a task')}{f' ({_named(error)})' if error else ''}")


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
