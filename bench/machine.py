"""Processes on their cores: started, and what they use of CPU and memory."""

import os
import platform
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PROXY_CORE: Final = 0
LOAD_CORE: Final = 1
"""Load generators and pods."""
_RESTING: Final = 0.02
"""The share of a core that a process without requests may use."""


def prepare() -> None:
    """Put this process, which makes load, on its core, with room for many sockets; SIGTERM ends all.

    What it starts inherits its priority, peers and pods too: whatever else the machine does waits for them.
    """
    if not {PROXY_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise SystemExit(
            f"the bench needs cores {PROXY_CORE} and {LOAD_CORE}: one for the proxy, one for load"
        )
    os.sched_setaffinity(0, {LOAD_CORE})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    # what --install brings is beside the interpreter, and Debian keeps servers where users do not look
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    os.environ["PATH"] = os.pathsep.join(places)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def kind() -> str:
    """Cores and kernel, for people."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = f"{os.cpu_count()} cores{f' of {model[1]}' if model else ''}"
    return f"{cores}, {platform.machine()}; {platform.system()} {platform.release()}"


def quiet(seconds: float = 2.0) -> str:
    """How idle the cores are before anything is measured: a machine with other work measures that too."""
    cores = Idle(PROXY_CORE), Idle(LOAD_CORE)
    time.sleep(seconds)
    proxy, load = (core.share() for core in cores)
    return f"the proxies' core {proxy:.0%}, the load's {load:.0%}"


def start(
    name: str, core: int, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A process on a core; what it says goes to `name.log` in the folder."""
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End them, with force those that take too long."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + 10
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used, all threads."""
    return (
        sum(
            int((task / "schedstat").read_text().split()[0])
            for one in tree(pid)
            for task in Path(f"/proc/{one}/task").iterdir()
        )
        / 1e9
    )


def settle(pid: int) -> None:
    """Return when a process and its descendants rest, or have had time enough to."""
    for _ in range(50):
        before = cpu(pid)
        time.sleep(0.2)
        if cpu(pid) - before < _RESTING * 0.2:
            return


def memory(pid: int) -> int:
    """Resident bytes of a process and its descendants.

    What they share among themselves counts once, what they share with others in full, as in a pod of theirs.
    """
    own, files = 0, [0]
    for one in tree(pid):
        own += _kib(Path(f"/proc/{one}/smaps_rollup"), "Pss_Anon")
        files.append(_kib(Path(f"/proc/{one}/status"), "RssFile"))
    return (own + max(files)) * 1024


def _kib(path: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


class Idle:
    """The share of a core that nothing has used since this was made."""

    def __init__(self, core: int = LOAD_CORE) -> None:
        self._core = core
        self._start = core_times(core)

    def share(self) -> float:
        idle, total = (now - then for now, then in zip(core_times(self._core), self._start, strict=True))
        return idle / total if total else 0.0


def core_times(core: int) -> tuple[int, int]:
    """Ticks that a core was idle, and all its ticks."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, idle, iowait, interrupt, soft, steal, *_ = map(int, ticks)
            idle += iowait
            return idle, user + nice + system + idle + interrupt + soft + steal
    raise LookupError(f"no core {core}")


@contextmanager
def running(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End the processes, those added meanwhile too, whatever happens."""
    try:
        yield
    finally:
        stop(processes)
