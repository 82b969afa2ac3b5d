"""A run told from its logs: each request with what client, proxy and pod said of it; who knew what when."""

import json
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from math import inf
from sys import intern

from tests.invariants import logs
from tests.invariants.view import View

SLACK = 0.25
"""Seconds by which a line may be later than what it tells, on a machine that has much else to do."""
IN_USE = re.compile(r"^(\S+ \S+) INFO .*?snapshot (\d+)\.(\d+) (?:of \S+ )?is in use")


@dataclass(slots=True)
class Line:
    """Of a proxy's access log. Times are Unix seconds."""

    life: "Life"
    start: float
    end: float
    decided: float
    """The latest moment at which it may have been decided where the request goes."""
    status: int
    reason: str
    endpoint: str
    """The pod's name; empty: none."""
    uid: str
    """The pod's; empty: none."""
    address: str
    route: str
    scope: str
    retries: int
    message: str  # why a tunnel was ended; empty: nobody did


@dataclass(slots=True)
class Seen:
    """A request as a pod saw it."""

    pod: str
    uid: str
    begin: float
    end: float
    finished: bool
    notice: str
    session: str
    secret: str
    leaked: bool
    shown: str
    """The value of its own that the application saw; empty: none."""
    gave: str
    """The one that it gave out; empty: none."""


@dataclass(slots=True)
class Ask:
    """A request as its client saw it."""

    id: str
    session: str
    route: str
    proxy: str
    method: str
    token: str
    """A digest of what was shown; empty: nothing."""
    sent: float
    done: float
    status: int
    """0: no answer."""
    given: str
    """A digest of the token in the answer; empty: none, `-`: it was cleared."""
    uid: str
    wrong: str
    error: str
    close: int
    """The code that a chat ended with; 0: none."""
    lines: list = field(default_factory=list)
    seen: list = field(default_factory=list)
    binding: "Binding | None" = None
    """What its token says; None: it shows none."""
    after: "Binding | None" = None  # what the one in the answer says

    @property
    def good(self):
        """The application answered, or a chat began."""
        return self.status in {200, 101}

    @property
    def line(self):
        return self.lines[0] if len(self.lines) == 1 else None

    def __str__(self):
        return f"request {self.id}"


@dataclass(slots=True)
class Life:
    """One process of a proxy."""

    proxy: str
    stem: str
    started: float
    workers: int = 1
    ready: float = inf
    out: float = inf
    """When clients knew that it is no more to be asked."""
    ended: float = inf
    killed: float = inf
    torn: float = inf
    """From then on lines of its log may be missing."""
    applied: list = field(default_factory=list)
    """(time, version) of each snapshot that came into use."""
    times: list = field(default_factory=list)
    numbers: list = field(default_factory=list)
    """The same, apart."""
    counts: Counter = field(default_factory=Counter)
    """Lines by (scope, reason)."""
    retries: int = 0

    def versions(self, begin, end):
        """The snapshots that were in use at some moment between the two."""
        first = max(0, bisect_right(self.times, begin - SLACK) - 1)
        return self.numbers[first : bisect_right(self.times, end + SLACK)]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token says. Where logs do not tell a time or an epoch exactly: the least and the greatest."""

    uid: str
    pod: str
    name: str
    """What it names, as its route's policy says: the pod's UID, its stable name, its cohort."""
    bound: tuple
    epoch: tuple
    sealed: tuple
    """Where a tunnel began with it both are inf: the idle timer does not end it."""
    value: str = ""
    """The application's value that it is the key of; empty: the key is ours."""


class Story:
    """Everything that the logs in a folder tell."""

    def __init__(self, folder, namespace="t"):
        """`namespace`: of the routes and Services."""
        self.folder, self.namespace = folder, namespace
        self.events = logs.read(folder / logs.EVENTS)
        self.snapshots = {}
        self.published = {}
        for event in self.of("published"):
            version = tuple(event["version"])
            self.snapshots.setdefault(version, event)
            self.published.setdefault(version, event["time"])
        self._versions = sorted(self.snapshots)
        self._views = {}
        self._holding = {
            key
            for snapshot in self.snapshots.values()
            for key, route in snapshot["routes"].items()
            for rule in route["rules"]
            if rule["persistence"]["failover"]["hold"]
        }
        """The routes whose requests may wait for their pod: they are decided later than they come."""
        self.pods, self._named = defaultdict(list), defaultdict(list)
        for event in self.of("pod"):
            if event["uid"] not in self.pods:
                self._named[event["pod"]].append((event["time"], event.get("address", ""), event["uid"]))
            self.pods[event["uid"]].append(event)
        self.lives = list(self._lives())
        for life in self.lives:
            if life.killed < inf and life.out is inf:
                # Clients are sent there all the while: until its next process answers.
                nexts = (
                    one.ready for one in self.lives if one.proxy == life.proxy and one.started > life.killed
                )
                life.out = min(nexts, default=inf)
        self.asks = {ask.id: ask for ask in self._asks()}
        for life in self.lives:
            self._read_lines(life)
        self._read_seen()
        self._bind()

    def of(self, kind, **fields):
        """The events of a kind with these fields, in their order."""
        return [
            event
            for event in self.events
            if event["event"] == kind and all(event.get(name) == value for name, value in fields.items())
        ]

    def key(self, name):
        """A route's name, or a set of endpoints', as snapshots and logs have it."""
        return f"{self.namespace}/{name}"

    def view(self, version, route):
        """A route in a snapshot; None where the log lacks one of them."""
        key = version, route
        if key not in self._views:
            snapshot = self.snapshots.get(version)
            self._views[key] = None if snapshot is None else View.of(snapshot, self.key(route))
        return self._views[key]

    def views(self, ask):
        """The route of a request as the proxy may have known it when it decided."""
        line = ask.line
        versions = line.life.versions(line.start, line.decided)
        found = [self.view(known, ask.route) for version in versions for known in self._told(version)]
        return [] if None in found else found

    def _told(self, version):
        """The snapshot; where the log lacks it, for the recorder was slower, those before and behind it."""
        if version in self.snapshots:
            return (version,)
        place = bisect_right(self._versions, version)
        return self._versions[max(0, place - 1) : place + 1]

    def uid(self, name, address, time):
        """Of the pod that had the name, and the address, then; empty: none had."""
        host = address.rpartition(":")[0]
        found = ""
        for begin, its, uid in self._named.get(name, ()):
            if its in {"", host} and (begin <= time or not found):
                found = uid
        return found

    # Reading

    def _lives(self):
        events = self.of("proxy")
        for number, event in enumerate(events):
            if event["what"] != "started":
                continue
            life = Life(event["proxy"], event["log"], event["time"], event.get("workers", 1))
            for other in events[number + 1 :]:
                if other["proxy"] != life.proxy:
                    continue
                if other["what"] == "started":
                    break
                if other["what"] in {"ready", "out", "killed", "ended", "torn"}:
                    setattr(life, other["what"], other["time"])
            life.ended = min(life.ended, life.killed)
            life.torn = min(life.torn, life.killed)
            zone = UTC if event.get("utc") else None
            life.applied = list(_applied(self.folder / f"{life.stem}.err", zone))
            life.times, life.numbers = (
                map(list, zip(*life.applied, strict=True)) if life.applied else ([], [])
            )
            yield life

    def _asks(self):
        with (self.folder / logs.CLIENTS).open() as file:
            for line in file:
                it = json.loads(line)
                yield Ask(
                    it["id"],
                    intern(it["session"]),
                    intern(it["route"]),
                    intern(it["proxy"]),
                    intern(it["method"]),
                    it["token"],
                    it["sent"],
                    it["done"],
                    it["status"],
                    it.get("set", ""),
                    intern(it.get("uid", "")),
                    it.get("wrong", ""),
                    it.get("error", ""),
                    it.get("close", 0),
                )

    def _read_lines(self, life):
        with (self.folder / f"{life.stem}.out").open() as file:
            for text in file:
                try:
                    it = json.loads(text)
                except json.JSONDecodeError:
                    continue  # it was being written when its process ended
                reason = it["reason"] or ""
                life.counts[it["scope"], reason] += 1
                life.retries += it["retries"]
                ask = self.asks.get(it["requestId"])
                if ask is None:
                    continue
                end = datetime.fromisoformat(it["time"]).timestamp() + 0.0005
                start = end - it["total"] / 1000
                decided = start
                waited = it["retries"] or it["connect"] is not None or it["route"] in self._holding
                if waited or reason not in {"Bound", "New", "Hashed"}:
                    decided = end if it["firstByte"] is None else start + it["firstByte"] / 1000
                endpoint, address = intern(it["endpoint"] or ""), intern(it["address"] or "")
                ask.lines.append(
                    Line(
                        life,
                        start,
                        end,
                        decided,
                        it["status"],
                        intern(reason),
                        endpoint,
                        self.uid(endpoint, address, end),
                        address,
                        intern(it["route"] or ""),
                        intern(it["scope"] or ""),
                        it["retries"],
                        it["message"] or "",
                    )
                )

    def _read_seen(self):
        with (self.folder / logs.PODS).open() as file:
            for text in file:
                it = json.loads(text)
                ask = self.asks.get(it["id"])
                if ask is not None:
                    names = ("pod", "uid", "from", "to", "finished", "notice", "session", "secret", "leaked")
                    values = it.get("shown", ""), it.get("gave", "")
                    ask.seen.append(Seen(*(it[name] for name in names), *values))
                    if ask.status == 101 and ask.line is not None:
                        # Until it ended, and not until it was decided, its line's time tells.
                        ask.line.decided = max(ask.line.start, it["from"])

    def _bind(self):
        """What each token says, from the answers that gave them, and with it what each request showed."""
        tokens = {}
        for ask in sorted(self.asks.values(), key=lambda ask: ask.done):
            # A token is shown only after it came, so that its own answer is told before.
            ask.binding = tokens.get(ask.token)
            if ask.line is not None and ask.given not in {"", "-"}:
                if ask.given not in tokens:
                    tokens[ask.given] = self._bound(ask, ask.binding)
                ask.after = tokens[ask.given]

    def _bound(self, ask, before):
        """What the token in the answer says, `before` being what the one in the request did."""
        line, views = ask.line, self.views(ask)
        value = ask.seen[-1].gave if ask.seen else ""
        names = [view.name(line.uid) for view in views if line.uid in view.endpoints] or [line.uid]
        here = before.name if before is not None and before.name in names else names[0]
        begin, end = line.start - 0.01, line.decided + SLACK
        sealed = (inf, inf) if ask.status == 101 else (begin, end)
        if line.reason == "Bound" and before is not None and here == before.name:
            # It goes on; a container may have begun anew, of which another request has told.
            began = any(one["started"] > before.bound[0] for view in views for one in view.named(before))
            bound = (before.bound[0], end) if began else before.bound
            return replace(before, bound=bound, sealed=sealed, value=value or before.value)
        epochs = [view.epoch for view in views] or [0]
        epoch = (min(epochs), max(epochs))
        if line.reason == "ContainerRestarted" and before is not None:
            epoch = before.epoch
        return Binding(line.uid, line.endpoint, here, (begin, end), epoch, sealed, value)

    # What is true of the cluster

    @cached_property
    def away(self):
        """Spans in which no operator worked, from its kill to its successor's first publication."""
        return [
            (event["time"], self._successor(event["time"])) for event in self.of("operator", what="killed")
        ]

    def _successor(self, time):
        """When the operator that follows one killed then has published: who tells of it may be late."""
        newest = max((version for version, at in self.published.items() if at <= time), default=(0, 0))
        told = [at for at in self.published.values() if at > time]
        taken = [
            at for life in self.lives for at, (epoch, _) in life.applied if at > time and epoch > newest[0]
        ]
        return min(told + taken, default=inf)

    @cached_property
    def unheard(self):
        """Spans in which the API server did not answer."""
        backs = self.of("api", what="back")
        return [
            (event["time"], min((one["time"] for one in backs if one["time"] > event["time"]), default=inf))
            for event in self.of("api", what="away")
        ]

    @cached_property
    def downs(self):
        """By pod, the spans in which it takes no connections, and when it broke its connections off."""
        found = {}
        for uid, events in self.pods.items():
            spans, begin = [], None
            for event in events:
                if event["what"] in {"crashed", "stopped"}:
                    begin = event["time"]
                elif event["what"] == "restarted" and begin is not None:
                    spans.append((begin, event["time"]))
                    begin = None
            if begin is not None:
                spans.append((begin, inf))
            found[uid] = spans
        return found

    def is_down(self, uid, begin, end):
        """Whether the pod may have refused a connection between the two."""
        return any(first - SLACK <= end and begin <= last + SLACK for first, last in self.downs.get(uid, ()))


def _applied(path, zone):
    """Of a proxy's own log, whose times are its machine's, or of that zone."""
    with path.open(errors="replace") as file:
        for line in file:
            found = IN_USE.match(line)
            if found:
                yield moment(found[1], zone), (int(found[2]), int(found[3]))


def moment(text, zone=None):
    """A log's time (Unix seconds), which is the machine's or of that zone."""
    return datetime.fromisoformat(text.replace(",", ".")).replace(tzinfo=zone).timestamp()
