"""What the fleet's store holds, as far as logs tell: when a proxy could not know a value that it was shown.

Written from docs/persistence.md: a proxy knows what it has served, and asks the store for the rest. The store
is slow, away or emptied by events alone, and a proxy's own log says how long it did without; who knows a
value writes it, and writes it again when an emptied store is back.
"""

import re
from collections import defaultdict
from functools import cache
from math import inf

from tests.invariants.story import SLACK, moment

LATE = 0.04
"""Seconds that a request which waited for the store in vain has waited, a little less than 45 ms."""
NOTICED = 1.0
"""Seconds after which a store that was slow, or is another, is known to be what it is."""
REACHED = re.compile(r"^(\S+ \S+) \w+ (\S+): store \S+ is (away|back)")


class Shelf:
    def __init__(self, story):
        self.story = story
        self.spans = list(_spans(story))
        self.emptied = [event["time"] for event in story.of("store", what="away")]
        self.known = defaultdict(list)
        """By value: (since when, process) of those that knew it."""
        self.without = cache(self._without)
        for ask in story.asks.values():
            line = ask.line
            if line is None or ask.status != 200 or all(view.learn != "Store" for view in story.views(ask)):
                continue
            if ask.token and line.reason != "New":
                self.known[ask.token].append((line.end, line.life.stem))
            if ask.given not in {"", "-"}:
                self.known[ask.given].append((line.end, line.life.stem))
        self.lives = {life.stem: life for life in story.lives}

    def may_lack(self, ask):
        """Whether the proxy may have gone without what it was asked to know."""
        line, known = ask.line, self.known[ask.token]
        stem = line.life.stem
        if line.life.workers == 1 and any(its == stem and since < line.start for since, its in known):
            return False
        waited = ask.seen[0].begin - line.start if ask.seen else line.decided - line.start
        disturbed = any(first <= line.decided and line.start <= last for first, last in self.without(stem))
        if waited >= LATE or disturbed:
            return True
        return not any(self._written(since, its, line.start) for since, its in known)

    def _written(self, since, stem, now):
        """Whether the store has it by then from this process, which knew it since."""
        written = self._when_reached(stem, since)
        for emptied in self.emptied:
            if written < emptied < now:
                written = self._when_reached(stem, emptied)
        return self.lives[stem].ended >= written and written < now - SLACK

    def _when_reached(self, stem, time):
        """The moment from when on the process reaches the store again."""
        for first, last in sorted(self.without(stem)):
            if first <= time <= last:
                time = last
        return time

    def _without(self, stem):
        """The spans in which a process may have had no store."""
        found = [(first - SLACK, last + NOTICED) for first, last in self.spans]
        begins = {}
        with (self.story.folder / f"{stem}.err").open(errors="replace") as file:
            for line in file:
                told = REACHED.match(line)
                if told and told[3] == "away":
                    begins.setdefault(told[2], moment(told[1]))
                elif told and told[2] in begins:
                    found.append((begins.pop(told[2]) - SLACK, moment(told[1]) + SLACK))
        return found + [(begin - SLACK, inf) for begin in begins.values()]


def _spans(story):
    """When the store was slow or away."""
    for event in story.of("store"):
        if event["what"] in {"slow", "away"}:
            ends = [one["time"] for one in story.of("store", what="well") if one["time"] > event["time"]]
            yield event["time"], min(ends, default=inf)
