"""What a page of results says of the run that it comes from."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]


def facts(command: str) -> list[str]:
    """When it ran, of which commit, on which Python, by which command: one line each."""
    return [
        f"Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"Version: {commit()} on {platform.python_implementation()} {platform.python_version()}",
        f"Command: `{command}`",
    ]


def commit() -> str:
    """The commit that is checked out, `-dirty` with changes; `unknown` outside a clone."""
    told = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"
