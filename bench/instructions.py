"""What the processor does for a process: instructions where they can be counted, else its time."""

import re
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from bench import machine


class Counter(ABC):
    """Counts what a process spends while some work is done."""

    unit: ClassVar[str]
    requests: ClassVar[int]
    """So many requests give a steady figure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def before(self) -> list[str]:
        """The command that the process has to be run under."""
        return []

    @abstractmethod
    def spent(self, pid: int, work: Callable[[], None]) -> float:
        """What the process spends on the work."""


class Perf(Counter):
    """The processor's own counter."""

    unit = "instructions (perf)"
    requests = 20_000

    def spent(self, pid: int, work: Callable[[], None]) -> float:
        report = self._folder / "perf.csv"
        command = ["perf", "stat", "-x,", "-e", "instructions:u", "-o", str(report), "-p", str(pid)]
        with subprocess.Popen(command) as counting:
            work()
            counting.send_signal(signal.SIGINT)
        return float(re.findall(r"^(\d+),", report.read_text(), re.MULTILINE)[0])


class Callgrind(Counter):
    """Each instruction that the process runs, in a simulated processor: slow, and exact."""

    unit = "instructions (callgrind)"
    requests = 2_000

    @property
    def before(self) -> list[str]:
        return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self._folder}/callgrind"]

    def spent(self, pid: int, work: Callable[[], None]) -> float:
        _control("--zero", pid)
        work()
        _control("--dump", pid)
        newest = max(self._folder.glob("callgrind.[0-9]*"), key=lambda path: int(path.suffix[1:]))
        found = re.search(r"^summary: (\d+)", newest.read_text(), re.MULTILINE)
        if found is None:
            raise LookupError(f"{newest} has no summary")
        return float(found[1])


class Time(Counter):
    """The process's time on its core: it varies, so that many requests are needed."""

    unit = "seconds of CPU"
    requests = 1_000_000

    def spent(self, pid: int, work: Callable[[], None]) -> float:
        before = machine.cpu(pid)
        work()
        return machine.cpu(pid) - before


def best() -> type[Counter]:
    """The best that works on this machine."""
    if shutil.which("perf"):
        tried = subprocess.run(
            ["perf", "stat", "-x,", "-e", "instructions:u", "true"],
            check=False,
            capture_output=True,
            text=True,
        )
        if re.search(r"^\d+,", tried.stderr, re.MULTILINE):
            return Perf
    return Callgrind if shutil.which("valgrind") and shutil.which("callgrind_control") else Time


def _control(order: str, pid: int) -> None:
    subprocess.run(["callgrind_control", order, str(pid)], check=True, capture_output=True)
