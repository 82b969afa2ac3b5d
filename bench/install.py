"""Peers from packages: PyPI's into the running environment, Debian's where this may install them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from bench.peers import Peer

TOOLS = {"wrk": "wrk", "haproxy": "haproxy", "taskset": "util-linux", "valgrind": "valgrind"}
"""What the bench itself needs, by command, and its Debian package."""
NEEDED = ("wrk", "haproxy", "taskset")


def install(peers: Sequence[Peer]) -> None:
    """Bring what is missing. What cannot be brought is left out later, by name."""
    missing = [peer for peer in peers if not peer.installed]
    debian = {peer.debian for peer in missing if peer.debian}
    debian |= {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    pypi = sorted(peer.pypi for peer in missing if peer.pypi)
    if debian and shutil.which("apt-get") and not os.getuid():
        _run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *sorted(debian))
    elif debian:
        print(f"not installed, for it takes root and apt-get: {' '.join(sorted(debian))}")
    if pypi:
        uv = shutil.which("uv")
        pip = (
            [uv, "pip", "install", "--python", sys.executable]
            if uv
            else [sys.executable, "-m", "pip", "install"]
        )
        _run(*pip, "--quiet", *pypi)


def _run(*command: str) -> None:
    print("$", *command, flush=True)
    if subprocess.run(command, check=False).returncode:
        print(f"{command[0]} failed: what it was to bring is left out")


def absent_tools() -> list[str]:
    """The Debian packages of tools without which there is no bench."""
    return [TOOLS[tool] for tool in NEEDED if shutil.which(tool) is None]
