"""Keeping memory for what a running proxy uses, not for what its start needed."""

import gc
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

_DONTNEED: Final = 4
"""MADV_DONTNEED of madvise(2)."""


def leave_out_client() -> None:
    """Let `aiohttp.web` be imported without aiohttp's client, which the package imports first: 4 MB.

    The package is there, but has not run; it does when anything is asked of it that is none of its modules.
    """
    spec = importlib.util.find_spec("aiohttp")
    if "aiohttp" in sys.modules or spec is None or spec.loader is None:
        return
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules["aiohttp"] = package
    package.__dict__["__version__"] = metadata.version("aiohttp")  # what its own modules ask for

    def find(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if importlib.util.find_spec(f"aiohttp.{name}") is not None:
            return importlib.import_module(f"aiohttp.{name}")
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    package.__dict__["__getattr__"] = find


def collect_rarely() -> None:
    """Have the collector of cycles walk what has grown old but seldom.

    Collections of the oldest generation walk every session and endpoint while requests wait: 30 ms with 1,000
    routes and 10,000 endpoints. Requests leave few cycles; what a start leaves behind is frozen out of them
    (see `settle`).
    """
    gc.set_threshold(20_000, 20, 100)


def settle() -> None:
    """To be called when the start is over: what it has made stays."""
    # modules, models and the first table live on: later collections need not walk them
    gc.collect()
    gc.freeze()
    give_back_code()


def give_back_code() -> None:
    """Unmap the parts of program files that are mapped now: most of them were for the start, 15 MB.

    What is used again is mapped again, from the page cache.
    """
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - used once

    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for start, end in unchanged(Path("/proc/self/smaps").read_text()):
        madvise(start, end - start, _DONTNEED)


def unchanged(smaps: str) -> Iterator[tuple[int, int]]:
    """The mappings of files that nobody can write to and none of whose pages differs from the file.

    `smaps` is proc(5)'s: a header for each mapping, and fields below it.
    """
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps, flags=re.MULTILINE)[1:]:
        span, permissions, _, _, inode, *_ = mapping.split(maxsplit=5)
        if inode == "0" or "w" in permissions:
            continue
        private = re.findall(r"^(?:Anonymous|Swap): +(\d+) kB$", mapping, re.MULTILINE)
        if private == ["0", "0"]:
            start, end = span.split("-")
            yield int(start, 16), int(end, 16)
