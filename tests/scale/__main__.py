"""Whether decisions hold at full scale, where the tests take a sample; what holds not ends with status 1.

    python -m tests.scale

- 100,000 bound, hashed and failed-over requests are decided alike by two processes with equal snapshots,
  keys and health views.
- 1,000,000 distinct keys, hashed, forged and none at all, through a proxy process, grow it by at most 64 MiB,
  and leave all bound sessions bound.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "api"), str(ROOT / "proxy")]

from bench import machine  # noqa: E402
from tests import provenance  # noqa: E402
from tests.scale.flood import WrongError, flooded  # noqa: E402
from tests.scale.proxy import StartError  # noqa: E402
from tests.unit.proxy.test_agreement import differing, say  # noqa: E402

REQUESTS = 100_000
INTRODUCTION = """\
What the tests show with samples holds at full scale: proxies that know nothing of one another decide alike,
and no number of keys that clients make up costs a proxy more than 64 MiB or a session its pod.
`make scale` asks; `python -m tests.scale --write docs/scale.md` writes this page."""


def agreement() -> tuple[str, list[str]]:
    """What two processes say of the same requests: one that knows their past, one that does not."""
    paths = os.pathsep.join(sys.path)
    call = (
        "import json; from tests.unit.proxy.test_agreement import say;"
        f" print(json.dumps(say(7, {REQUESTS}, 1, knows=False)))"
    )
    began = time.monotonic()
    other = subprocess.Popen(
        [sys.executable, "-c", call], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )
    mine = say(7, REQUESTS, 2, knows=True)
    theirs = json.loads(other.communicate()[0])
    found = len(differing(mine, theirs))
    line = (
        f"{len(mine):,} decisions on {REQUESTS:,} requests in {time.monotonic() - began:.0f} s, "
        f"decided otherwise by the other process: {found}"
    )
    faults = [f"two processes decide {found} requests differently"] if found else []
    if len(mine) != len(theirs):
        faults.append(f"one process made {len(mine):,} decisions, the other {len(theirs):,}")
    return line, faults


def flood() -> tuple[str, list[str]]:
    """So many keys that nobody knows, through a proxy, while sessions are bound."""
    try:
        seen = flooded()
    except (WrongError, StartError, OSError) as error:
        return "a flood of keys came to no end", [str(error)]
    return seen.line, seen.faults


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page, such as docs/scale.md")
    given = parser.parse_args()
    command = shlex.join(["python", "-m", "tests.scale", *sys.argv[1:]])
    facts = [*provenance.facts(command), f"Machine: {machine.kind()}"]
    print("\n".join(facts), flush=True)
    lines, faults = [], []
    for part in (agreement, flood):
        line, found = part()
        print(line, flush=True)
        lines.append(line)
        faults += found
    verdict = [f"FAULT {fault}" for fault in faults] or ["no fault"]
    print("\n".join(verdict))
    if given.write is not None:
        parts = [
            "# Scale",
            INTRODUCTION,
            *("\n".join(f"- {one}" for one in some) for some in (facts, lines, verdict)),
        ]
        given.write.write_text("\n\n".join(parts) + "\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
