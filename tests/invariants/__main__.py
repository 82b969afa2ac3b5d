"""`make invariants`, or `python -m tests.invariants --help`: a run of random events, and the verdict on it.

Ends with status 1 when an invariant is violated; the seed that is printed makes the same events again.
"""

import argparse
import asyncio
import os
import shlex
import sys
import tempfile
from pathlib import Path

from tests import provenance
from tests.invariants.run import Plan, perform
from tests.invariants.verdict import CHECKS, judge

FULL = {"sessions": 10_000, "requests": 50, "seconds": 310.0}
SHORT = {"sessions": 300, "requests": 40, "seconds": 45.0}


def main():
    given = arguments().parse_args()
    size = SHORT if given.short else FULL
    plan = Plan(
        seed=given.seed or os.urandom(4).hex(),
        sessions=given.sessions or size["sessions"],
        requests=given.requests or size["requests"],
        seconds=given.seconds or size["seconds"],
    )
    command = shlex.join(
        [
            "python",
            "-m",
            "tests.invariants",
            f"--sessions={plan.sessions}",
            f"--requests={plan.requests}",
            f"--seconds={plan.seconds:g}",
            f"--seed={plan.seed}",
        ]
    )
    print(command, flush=True)
    with tempfile.TemporaryDirectory(prefix="invariants-") as name:
        folder = given.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        events = asyncio.run(perform(plan, folder))
        verdict = judge(folder)
    print(f"{len(events)} events: {', '.join(events)}\n{verdict}")
    if given.write is not None:
        given.write.write_text(document(HEAD, command, events, verdict))
    if verdict.violations:
        print(f"seed {plan.seed}: {', '.join(verdict.violations)} violated", file=sys.stderr)
        sys.exit(1)


def arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.invariants", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a run of about a minute and a half")
    parser.add_argument("--seed", help="what the events follow from (default: a new one)")
    parser.add_argument("--sessions", type=int, help=f"how many (default: {FULL['sessions']:,})")
    parser.add_argument("--requests", type=int, help=f"of each session (default: {FULL['requests']})")
    parser.add_argument(
        "--seconds", type=float, help=f"in which they are made (default: {FULL['seconds']:g})"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the logs there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the result, docs/invariants.md")
    return parser


def document(head, command, events, verdict):
    """A page on a run, such as docs/invariants.md."""
    checks = [f"| {name} | {_first(check)} | {_result(verdict, name)} |" for name, check in CHECKS.items()]
    return "\n".join(
        [
            head,
            *(f"- {fact}" for fact in provenance.facts(command)),
            "",
            "```",
            str(verdict),
            "```",
            "",
            "| | what holds | |",
            "|---|---|---|",
            *checks,
            "",
            f"The {len(events)} events, in their order: {'; '.join(events)}.",
            "",
        ]
    )


HEAD = """# Invariants

Sessions over three proxies, one of two workers, while pods, routes, keys, proxies, the store and the operator
change at random, in processes of one machine: the real operator over a small API server, real proxies, a real
Valkey, pods of our own. Routes are of all kinds of keys and bindings. Clients, proxies and pods log every
request by its id; a checker that knows nothing but the logs then judges them.
`python -m tests.invariants --write docs/invariants.md` writes this page (`make invariants`); the seed in the
command makes the same events again. For each line of the table a deliberate break in a copy of the code is
detected (`tests/invariants/mutations.py`).
"""


def _first(check):
    return " ".join(check.__doc__.split())


def _result(verdict, name):
    return "violated" if name in verdict.violations else "holds"


if __name__ == "__main__":
    main()
