"""What a run's logs come to: every check on its own, the moves and the failures by their causes."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from tests.invariants import service, sessions
from tests.invariants.story import Story
from tests.invariants.view import MOVED

CHECKS = {
    "I1": sessions.i1_stability,
    "I2": sessions.i2_justified_moves,
    "I3": sessions.i3_minimal_disruption,
    "I4": sessions.i4_no_resurrection,
    "I5": sessions.i5_drain,
    "I6": sessions.i6_agreement,
    "I7": service.i7_one_answer,
    "I8": service.i8_no_crosstalk,
    "I9": service.i9_monotonic_config,
    "I10": service.i10_static_stability,
    "I11": service.i11_convergence,
    "I12": service.i12_isolation,
    "I13": service.i13_boundedness,
    "moves counted": service.moves_counted,
    "sessions counted": service.sessions_counted,
}
SHOWN = 8
"""So many violations of each check are told."""


@dataclass
class Verdict:
    requests: int
    sessions: int
    moves: Counter
    """By reason."""
    excused: Counter
    """Failed requests by what explains them."""
    violations: dict = field(default_factory=dict)
    """By check, its first few."""

    def __str__(self):
        lines = [
            f"{self.requests:,} requests of {self.sessions:,} sessions",
            f"moves: {_told(self.moves)}",
            f"failed requests that are declared or were caused: {_told(self.excused)}",
        ]
        for name, found in self.violations.items():
            lines.append(f"{name} VIOLATED, {len(found)} times or more:")
            lines += [f"  {one}" for one in found]
        if not self.violations:
            lines.append("every check holds: no unexplained move, no unexplained failure")
        return "\n".join(lines)


def judge(folder, namespace="t"):
    """The verdict on the logs in a folder; `namespace`: of the routes."""
    story = Story(folder, namespace)
    asks = story.asks.values()
    verdict = Verdict(
        requests=len(asks),
        sessions=len({ask.session for ask in asks}),
        moves=Counter(
            ask.line.reason
            for ask in asks
            if ask.line is not None and ask.line.reason in MOVED and ask.line.endpoint
        ),
        excused=Counter(why for ask in asks if not ask.good and (why := service.excuse(story, ask))),
    )
    for name, check in CHECKS.items():
        found = list(islice(check(story), SHOWN))
        if found:
            verdict.violations[name] = found
    return verdict


def _told(counts):
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"
