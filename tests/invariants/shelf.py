"""What the fleet's store holds, as far as logs tell: when a proxy could not know a value that it was shown.

Written from docs/persistence.md: a proxy knows what it has served, and asks the store for the rest. The store
is slow, away or emptied by events alone; who knows a value writes it, and writes it again when it is back.
"""

from collections import defaultdict
from math import inf

from tests.invariants.story import SLACK

LATE = 0.04
"""Seconds that a request which waited for the store in vain has waited, a little less than 45 ms."""
BACK = 5.0
"""Seconds after which a store that is back is noticed, and written to."""


class Shelf:
    def __init__(self, story):
        self.spans = list(_spans(story))
        self.emptied = [event["time"] for event in story.of("store", what="away")]
        self.known = defaultdict(list)
        """By value: (since when, process) of those that knew it."""
        for ask in story.asks.values():
            line = ask.line
            if (
                line is None
                or ask.status != 200
                or not any(view.learn == "Store" for view in story.views(ask))
            ):
                continue
            if ask.token and line.reason != "New":
                self.known[ask.token].append((line.end, line.life))
            if ask.given not in {"", "-"}:
                self.known[ask.given].append((line.end, line.life))

    def may_lack(self, ask):
        """Whether the proxy may have gone without what it was asked to know."""
        line = ask.line
        known = self.known[ask.token]
        if any(life is line.life and life.workers == 1 and since < line.start for since, life in known):
            return False
        waited = ask.seen[0].begin - line.start if ask.seen else line.decided - line.start
        if waited >= LATE or self._disturbed(line.start, line.decided):
            return True
        return not any(self._written(since, life, line.start) for since, life in known)

    def _disturbed(self, begin, end):
        return any(first - SLACK <= end and begin <= last + BACK for first, last in self.spans)

    def _written(self, since, life, now):
        """Whether the store has it by then from this process, which knew it since."""
        written = max(
            [since, *(last + BACK for first, last in self.spans if first - SLACK <= since <= last + BACK)]
        )
        for emptied in self.emptied:
            if written < emptied < now:
                written = min(last for first, last in self.spans if first == emptied) + BACK
        return life.ended >= written and written < now - SLACK


def _spans(story):
    """When the store was slow or away."""
    for event in story.of("store"):
        if event["what"] in {"slow", "away"}:
            ends = [one["time"] for one in story.of("store", what="well") if one["time"] > event["time"]]
            yield event["time"], min(ends, default=inf)
