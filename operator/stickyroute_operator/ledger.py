"""What the fleet knows of sessions: the affinity reports of every proxy, merged into one view. Pure.

A proxy counts from its own start. The ledger remembers what ended processes counted, for as long as the
operator lives and the scope is served, so that totals only grow. Their sessions live on with their clients,
and come to other proxies with the next request; until then only the ledger knows of them.
"""

import base64
import binascii
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stickyroute_api.affinity import (
    ID_BYTES,
    WORST,
    AffinityReport,
    Clashes,
    Departure,
    EndpointSessions,
    ScopeReport,
    together,
)
from stickyroute_api.reasons import BindingReason, EndpointState

MAX_ENDED = 32
"""How many ended proxies' sessions and departures are remembered; of older ones only the totals."""
MAX_DEPARTURES = 20
"""How many departures of a scope are told, the newest."""
SAME_MOVE = 90.0
"""Seconds within which departures from an endpoint that stays are one move; proxies gather them for 60."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What happened to sessions since counting began."""

    new: int = 0
    moved: int = 0
    expired: int = 0
    rejected: int = 0
    restarted: int = 0
    ended: Mapping[BindingReason, int] = field(default_factory=dict)
    """Those of which no departure tells, by reason."""
    clashes: Clashes = field(default_factory=dict)

    @classmethod
    def of(cls, scope: ScopeReport) -> "Totals":
        return cls(
            scope.new,
            scope.moved,
            scope.expired,
            scope.rejected,
            scope.restarted,
            scope.ended,
            scope.clashes,
        )

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.new + other.new,
            self.moved + other.moved,
            self.expired + other.expired,
            self.rejected + other.rejected,
            self.restarted + other.restarted,
            Counter(self.ended) + Counter(other.ended),
            together(self.clashes, other.clashes),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What proxies find of an endpoint on their own: the worst that any of them says."""

    state: EndpointState
    proxies: int
    """That say so."""
    asked: int
    """That were asked."""

    @property
    def rank(self) -> tuple[int, int]:
        """The least is the worst."""
        return WORST.index(self.state), -self.proxies


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint's sessions over all proxies."""

    endpoint: str
    pod: str
    service: str
    active: int
    in_flight: int
    found: Finding | None = None
    """None: all proxies see it as the snapshot has it."""
    tunnels: int = 0
    remembered: int = 0
    """Sessions that only ended proxies knew there, beside the active ones."""


@dataclass(frozen=True, slots=True)
class DepartureView:
    """Sessions that lost one endpoint for one reason, over all proxies."""

    time: float
    """When the first proxy saw it."""
    endpoint: str
    pod: str
    reason: BindingReason
    sessions: int
    """Those bound to it; each counts once, however many proxies knew it."""
    moved: int
    """Those that came back and were bound elsewhere, as the proxies counted."""


@dataclass(frozen=True, slots=True)
class ScopeView:
    totals: Totals
    endpoints: tuple[EndpointView, ...]
    departures: tuple[DepartureView, ...]
    """The newest few, newest first."""
    sample: float
    """The share of sessions that the reports carried; below 1 the counts are estimates."""
    scope: str = ""
    """Its identity."""

    @property
    def active(self) -> int:
        return sum(endpoint.active for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class Remembered:
    """The sessions of one scope as a process knew them when it ended."""

    scope: str
    ended: float
    """When that was noticed, Unix seconds."""
    sample: float
    endpoints: tuple[EndpointSessions, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The last report of each running proxy, and what ended ones left."""

    running: Mapping[str, AffinityReport] = field(default_factory=dict)
    ended: tuple[AffinityReport, ...] = ()
    """Oldest first, without endpoints: their processes hold no sessions."""
    totals: Mapping[str, Totals] = field(default_factory=dict)
    """By scope: what processes counted that ended longer ago than those of `ended`."""
    remembered: Mapping[tuple[str, float], tuple[Remembered, ...]] = field(default_factory=dict)
    """By name and start of processes that ended."""

    def add(self, report: AffinityReport, now: float = 0.0) -> "Ledger":
        """With a proxy's newest report; another `started` is another process of the same name."""
        last = self.running.get(report.proxy)
        ledger = self if last is None or last.started == report.started else self._end(last, now)
        process = report.proxy, report.started
        return Ledger(
            running={**ledger.running, report.proxy: report},
            ended=tuple(other for other in ledger.ended if (other.proxy, other.started) != process),
            totals=ledger.totals,
            remembered={key: left for key, left in ledger.remembered.items() if key != process},
        )

    def keep(self, proxies: Iterable[str], now: float = 0.0) -> "Ledger":
        """With only these running."""
        ledger = self
        for name in self.running.keys() - set(proxies):
            ledger = ledger._end(self.running[name], now)
        return ledger

    def forget(self, now: float, windows: Mapping[str, float]) -> "Ledger":
        """Without the remembered sessions that nobody can bring back, and without what is served no more.

        `windows`: by scope, the seconds after which a session without a request ends; of all that are served.
        """
        remembered = {}
        for process, sessions in self.remembered.items():
            left = tuple(one for one in sessions if now < one.ended + windows.get(one.scope, 0.0))
            if left:
                remembered[process] = left if len(left) < len(sessions) else sessions
        ended = tuple(_of_scopes(one, windows) for one in self.ended)
        totals = {scope: sums for scope, sums in self.totals.items() if scope in windows}
        same = (
            remembered == self.remembered
            and len(totals) == len(self.totals)
            and all(one is other for one, other in zip(ended, self.ended, strict=True))
        )
        return self if same else replace(self, remembered=remembered, ended=ended, totals=totals)

    def _end(self, report: AffinityReport, now: float) -> "Ledger":
        left = {name: scope.model_copy(update={"endpoints": ()}) for name, scope in report.scopes.items()}
        ended = (*self.ended, report.model_copy(update={"scopes": left}))
        totals = dict(self.totals)
        for forgotten in ended[:-MAX_ENDED]:
            for identity, scope in forgotten.scopes.items():
                totals[identity] = totals.get(identity, Totals()) + Totals.of(scope)
        remembered = {**self.remembered, (report.proxy, report.started): _remembered(report, now)}
        return Ledger(
            running={name: other for name, other in self.running.items() if name != report.proxy},
            ended=ended[-MAX_ENDED:],
            totals=totals,
            remembered=dict(list(remembered.items())[-MAX_ENDED:]),
        )


def _of_scopes(report: AffinityReport, scopes: Mapping[str, object]) -> AffinityReport:
    """The report without what it says of other scopes."""
    if report.scopes.keys() <= scopes.keys():
        return report
    left = {name: scope for name, scope in report.scopes.items() if name in scopes}
    return report.model_copy(update={"scopes": left})


def _remembered(report: AffinityReport, now: float) -> tuple[Remembered, ...]:
    found = (
        Remembered(identity, now, report.sample, tuple(one for one in scope.endpoints if one.active))
        for identity, scope in report.scopes.items()
    )
    return tuple(one for one in found if one.endpoints)


def merge(ledger: Ledger) -> dict[str, ScopeView]:
    """The fleet's view by scope identity. Pure.

    A session that proxies see on several endpoints counts once: not where one of them saw it leave, else on
    the endpoint whose identity sorts first, so that every merge says the same. One that was seen to leave
    all of them counts on the one that it left longest ago.

    Where reports carry a sample of ids, the numbers that proxies state are scaled by what the sample shows
    to be doubly counted: without overlap they stay exact.
    """
    reports = (*ledger.running.values(), *ledger.ended)
    identities = {identity for report in reports for identity in report.scopes} | ledger.totals.keys()
    return {identity: _scope(identity, ledger, reports) for identity in sorted(identities)}


def _scope(identity: str, ledger: Ledger, reports: Sequence[AffinityReport]) -> ScopeView:
    told = [(report.sample, report.scopes[identity]) for report in reports if identity in report.scopes]
    running = [report.scopes[identity] for report in ledger.running.values() if identity in report.scopes]
    remembered = [one for left in ledger.remembered.values() for one in left if one.scope == identity]
    sample = min((*(share for share, _ in told), *(one.sample for one in remembered)), default=1.0)
    left, departures = _departures([scope for _, scope in told], sample)
    return ScopeView(
        totals=sum((Totals.of(scope) for _, scope in told), ledger.totals.get(identity, Totals())),
        endpoints=_endpoints(running, remembered, sample, left, len(ledger.running)),
        departures=departures,
        sample=sample,
        scope=identity,
    )


Left = Mapping[tuple[bytes, str], float]
"""When a session was last seen to leave an endpoint, by (session id, endpoint)."""


def _departures(scopes: Sequence[ScopeReport], sample: float) -> tuple[Left, tuple[DepartureView, ...]]:
    left: dict[tuple[bytes, str], float] = {}
    moves: list[_Move] = []
    open_moves: dict[tuple[str, BindingReason], _Move] = {}
    told = (departure for scope in scopes for departure in scope.departures)
    for departure in sorted(told, key=lambda departure: departure.time):
        ids = ids_of(departure.ids, sample)
        for session in ids:
            left[session, departure.endpoint] = departure.time
        key = departure.endpoint, departure.reason
        move = open_moves.get(key)
        if move is None or not move.takes(departure):
            move = open_moves[key] = _Move(departure)
            moves.append(move)
        move.add(departure, ids)
    views = [move.view() for move in moves]
    views.sort(key=lambda view: (-view.time, view.endpoint, view.reason))
    return left, tuple(views[:MAX_DEPARTURES])


class _Move:
    """The departures that are one move of sessions, seen by several proxies."""

    def __init__(self, first: Departure) -> None:
        self._first = first
        self._stated = self._moved = self._carried = 0
        self._ids: set[bytes] = set()

    def takes(self, departure: Departure) -> bool:
        """A pod terminates once; other causes may come again."""
        if departure.reason is BindingReason.POD_TERMINATED:
            return True
        return departure.time - self._first.time <= SAME_MOVE

    def add(self, departure: Departure, ids: set[bytes]) -> None:
        self._stated += max(departure.dropped, departure.moved)
        self._moved += departure.moved
        self._carried += len(ids)
        self._ids |= ids

    def view(self) -> DepartureView:
        first = self._first
        sessions = _scaled(self._stated, len(self._ids), self._carried)
        return DepartureView(first.time, first.endpoint, first.pod, first.reason, sessions, self._moved)


def _endpoints(
    scopes: Sequence[ScopeReport],
    remembered: Sequence[Remembered],
    sample: float,
    left: Left,
    asked: int,
) -> tuple[EndpointView, ...]:
    """`asked`: how many proxies were, be it that they have nothing to tell of the scope."""
    told: dict[str, EndpointView] = {}
    carried: Counter[str] = Counter()
    states: defaultdict[str, Counter[EndpointState]] = defaultdict(Counter)
    places: defaultdict[bytes, set[str]] = defaultdict(set)
    for scope in scopes:
        for sessions in scope.endpoints:
            key = sessions.endpoint
            if sessions.state in WORST:
                states[key][sessions.state] += 1
            ids = ids_of(sessions.ids, sample)
            carried[key] += len(ids)
            for session in ids:
                places[session].add(key)
            known = told.get(key) or EndpointView(key, sessions.pod, sessions.service, 0, 0)
            told[key] = replace(
                known,
                active=known.active + sessions.active,
                in_flight=known.in_flight + sessions.in_flight,
                tunnels=known.tunnels + sessions.tunnels,
            )
    counted: Counter[str] = Counter()
    for session, candidates in places.items():
        place = min(candidates, key=lambda endpoint: (left.get((session, endpoint), 0.0), endpoint))
        counted[place] += 1
    views = {
        key: replace(
            view,
            active=_scaled(view.active, counted[key], carried[key]),
            found=_found(states[key], asked),
        )
        for key, view in told.items()
    }
    for view in _of_ended(remembered, sample, places.keys(), left):
        known = views.get(view.endpoint, view)
        views[view.endpoint] = replace(known, remembered=view.remembered)
    return tuple(sorted(views.values(), key=lambda view: (view.service, view.pod, view.endpoint)))


def _of_ended(
    remembered: Sequence[Remembered], sample: float, known: Collection[bytes], left: Left
) -> Iterator[EndpointView]:
    """The endpoints where ended proxies knew sessions, with the number of those that no other has seen since.

    `known`: sessions that running proxies know, wherever that is.
    """
    stated: Counter[str] = Counter()
    carried: Counter[str] = Counter()
    lost: defaultdict[str, set[bytes]] = defaultdict(set)
    first: dict[str, EndpointSessions] = {}
    for sessions in (sessions for one in remembered for sessions in one.endpoints):
        key = sessions.endpoint
        ids = ids_of(sessions.ids, sample)
        first.setdefault(key, sessions)
        stated[key] += sessions.active
        carried[key] += len(ids)
        lost[key].update(one for one in ids if one not in known and (one, key) not in left)
    for key, sessions in first.items():
        count = _scaled(stated[key], len(lost[key]), carried[key])
        yield EndpointView(key, sessions.pod, sessions.service, 0, 0, remembered=count)


def _found(states: Counter[EndpointState], asked: int) -> Finding | None:
    return next((Finding(state, states[state], asked) for state in WORST if states[state]), None)


def _scaled(stated: int, counted: int, carried: int) -> int:
    """What is left of a stated number when `counted` of `carried` ids are no repetition."""
    return round(stated * counted / carried) if carried else stated


def ids_of(text: str, sample: float) -> set[bytes]:
    """The ids of a report that fall into the sample; none when the text is no list of ids."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return set()
    below = sample * 256
    return {
        content[start : start + ID_BYTES]
        for start in range(0, len(content) - ID_BYTES + 1, ID_BYTES)
        if content[start] < below
    }
