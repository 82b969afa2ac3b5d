"""What the suites came to: counted by the tests as they go, and written as docs/conformance.md."""

import json
import subprocess
from collections import Counter, defaultdict
from importlib.metadata import version

from tests import provenance

HEAD = """# Conformance

Suites that nobody here wrote, against the proxy and without it: both have to come to the same, or the reason
stands below. `make conformance` runs them and writes this page. In each cell is how many cases came to
which verdict, in the suite's own words, or how many notes REDbot made; an empty one: not run.
"""
WITHOUT, WITH = "without the proxy", "with it"
SUITES = {
    "Autobahn": (
        "WebSocket (RFC 6455, RFC 7692), against an echo server of aiohttp. Each case has to get the verdict"
        " that it gets without the proxy, in groups 1 to 7 and 10 also on how the connection was closed, and"
        " with the same messages. So what is not OK in both is the server's."
    ),
    "http-cache-tests": (
        "HTTP caching, by Node's client and server. Nobody here keeps a cache, so that cases that ask for one"
        " fail, in one of the ways that are counted: whatever a case comes to, it has to come to it through"
        " the proxy too."
    ),
    "Interim answers": (
        "1xx of Node's HTTP server, as Node's client sees them; the cases are those of http-tests/cache-tests"
        " that the package has not."
    ),
    "REDbot": (
        "A lint for HTTP: its notes on answers, good and bad ones, of a server of our own, by request method"
        " and level. The proxy may add no note without a reason below."
    ),
    "REDbot, errors": (
        "Its notes on errors that the proxy answers itself, in HTML, JSON and plain text, to GET and HEAD."
    ),
}
"""What each is, in the order of the page."""
LEFT_OUT = {
    "Autobahn's groups 9, 12 and 13 with two workers and by TLS": (
        "large and compressed messages are most of the time, and the first two runs tell how the proxy passes"
        " them on"
    ),
    "Autobahn's other half": "it judges clients; the proxy is none, it passes on what clients send",
    "`surrogate-control` of http-cache-tests": "its own runner leaves it out",
}
"""What no run has, and why."""


class Page:
    """Counts by suite, group and run, and what differs for a reason."""

    def __init__(self):
        self._counts = defaultdict(lambda: defaultdict(lambda: defaultdict(Counter)))
        self._reasons = defaultdict(dict)
        self._left_out = dict(LEFT_OUT)

    def count(self, suite, run, verdicts):
        """Takes the (group, verdict) of each case of a run."""
        for group, verdict in verdicts:
            self._counts[suite][group][run][verdict] += 1

    def explain(self, suite, reasons):
        """Takes {what differs: why} of a suite."""
        self._reasons[suite].update(reasons)

    def leave_out(self, cases, why):
        """Takes the names of cases that the suite itself did not run."""
        self._left_out[", ".join(f"`{case}`" for case in cases)] = why

    def document(self, command, tests, failed, package):
        """docs/conformance.md, of a run of so many tests; `package`: where http-cache-tests is."""
        cache = json.loads((package / "package.json").read_text())["version"]
        node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True)
        suites = (
            f"Autobahn's cases as kosoku {version('kosoku')} has them, REDbot {version('redbot')},"
            f" http-cache-tests {cache} on Node {node.stdout.strip()}; aiohttp {version('aiohttp')}"
        )
        facts = [
            *provenance.facts(command),
            f"Suites: {suites}",
            f"Result: {tests} tests, {failed} failed",
        ]
        parts = [HEAD, "\n".join(f"- {fact}" for fact in facts) + "\n"]
        parts += [self._section(suite) for suite in SUITES if suite in self._counts]
        not_run = _table(["not run", "why"], map(list, self._left_out.items()))
        return "\n".join([*parts, f"## Not run\n\n{not_run}"])

    def _section(self, suite):
        groups = self._counts[suite]
        runs = list(dict.fromkeys(run for found in groups.values() for run in found))
        rows = [[group, *(_cell(found.get(run)) for run in runs)] for group, found in groups.items()]
        if len(rows) > 1:
            rows.append(["all", *(_cell(_sum(found.get(run) for found in groups.values())) for run in runs)])
        text = f"## {suite}\n\n{SUITES[suite]}\n\n{_table(['group', *runs], rows)}"
        reasons = [list(reason) for reason in sorted(self._reasons[suite].items())]
        return text + (f"\n{_table(['what differs', 'why'], reasons)}" if reasons else "")


def _sum(counts):
    return sum(filter(None, counts), Counter())


def _cell(verdicts):
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted((verdicts or {}).items()))


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
