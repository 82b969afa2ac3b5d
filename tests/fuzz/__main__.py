"""`python -m tests.fuzz [TARGET]`: coverage-guided fuzzing of what strangers' bytes meet first.

It takes FUZZ_SECONDS (60), for all targets together where none is named. What fails is shown with its bytes
in base64, and kept in a folder that is named.
"""

import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

TARGETS = ("requests", "answers", "cookies")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
LONGEST = 2048
"""Bytes of an input."""


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["stickyroute_proxy"]):
        target = import_module(f"tests.fuzz.{name}")
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"{number:05}").write_bytes(seed)
    print(f"{name}: {len(seeds)} seeds, {seconds} s; what fails is kept in {folder}", flush=True)
    bounds = (f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/")
    atheris.Setup([sys.argv[0], *bounds, "-print_final_stats=1", "-verbosity=0", str(corpus)], target.check)
    atheris.Fuzz()


def fuzz_each(seconds: int) -> None:
    """Each target in a process of its own."""
    environment = os.environ | {"FUZZ_SECONDS": str(max(1, seconds // len(TARGETS)))}
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", name]
        if subprocess.run(command, env=environment, check=False).returncode:
            sys.exit(f"{name} failed")


if len(sys.argv) > 1:
    fuzz(sys.argv[1], SECONDS)
else:
    fuzz_each(SECONDS)
