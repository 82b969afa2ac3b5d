"""What a proxy knows of sessions: for the report, and so that a token it has opened need not be opened again.

A session is known from the moment its token comes back. One that was only handed out leaves no trace but a
count, so probes and bots that drop cookies cost no memory. Nothing here decides where a session goes: tokens
do, and a proxy that has just started knows none and decides the same.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from math import ceil, inf
from operator import attrgetter
from typing import Final

from stickyroute_api.affinity import DEFAULT_WINDOW, ID_BYTES
from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.quota import Quota
from stickyroute_proxy.affinity.recent import Recent

MAX_SESSIONS: Final = 1_000_000
"""How many are known at most; those beyond are served alike, but not counted."""
MAX_DEPARTURES: Final = 64
"""How many departures a scope remembers."""
MAX_DEPARTURE_IDS: Final = 25_000
"""How many sessions a departure names; the rest is only counted. More would not fit into a report."""
DEPARTURE_SECONDS: Final = 900.0
"""How long a departure, and the place that was left, are remembered."""
GATHER_SECONDS: Final = 60.0
"""Moves away from an endpoint that stays are one departure within this time."""
SWEEP_TURN: Final = 120
"""The number of sweeps in which each session is visited once."""
SWEEP_AT_LEAST: Final = 250
"""How many sessions and places each sweep visits, where there are so many."""
_LEFT: Final = frozenset({BindingReason.POD_TERMINATED, BindingReason.POLICY_CHANGED})
"""Why a place is left."""


def mark(token: bytes) -> bytes:
    """What stands for a token that was opened: every byte of it counts, whatever seeds Python's own hash."""
    return sha256(token).digest()


class Session:
    """A session that has shown its token here. Kept small: there may be a million."""

    __slots__ = ("epoch", "place", "recheck", "token", "used")

    epoch: int
    """The scope's when the token was last opened or given."""
    place: "Place"
    token: bytes
    """What `mark` makes of the token that was last seen or given."""
    recheck: float
    """Until then the token needs no other look than at its endpoint (Unix seconds)."""
    used: float
    """When it last made a request, true to a second."""


class Departed:
    """Sessions that lost a place for one reason."""

    __slots__ = ("dropped", "endpoint", "ids", "moved", "pod", "reason", "time")

    def __init__(self, place: "Place", reason: BindingReason, now: float) -> None:
        self.time = now
        self.endpoint = place.endpoint
        self.pod = place.pod
        self.reason = reason
        self.dropped = 0
        self.moved = 0
        self.ids: list[bytes] = []

    def drop(self, sessions: Iterable[bytes]) -> None:
        """Count sessions that lost the place."""
        for session in sessions:
            self.dropped += 1
            if len(self.ids) < MAX_DEPARTURE_IDS:
                self.ids.append(session)


class Place:
    """One endpoint as the sessions of one scope know it; of a cohort, all of them."""

    __slots__ = ("departures", "endpoint", "key", "left", "pod", "scope", "service", "sessions", "started")

    left: float | None
    """When it ceased to keep sessions; None while it keeps them."""

    def __init__(self, scope: "ScopeSessions", endpoint: Endpoint, name: bytes) -> None:
        self.scope = scope
        self.key = name
        self.endpoint = endpoint.id
        self.pod = endpoint.pod
        self.service = endpoint.service
        self.left = None
        self.started = endpoint.started
        self.sessions: dict[bytes, Session] = {}
        """By the first ID_BYTES of the session's id, which is random, so that they serve as its digest."""
        self.departures: dict[BindingReason, Departed] = {}
        """The newest for each reason."""

    def doubt(self) -> None:
        """Have the bindings that are known here looked at anew."""
        for session in self.sessions.values():
            session.recheck = -inf


Name = Callable[[Endpoint], bytes]


class ScopeSessions:
    """The known sessions of one scope by place, and their departures."""

    __slots__ = (
        "_named",
        "departures",
        "endpoints",
        "epoch",
        "gone",
        "known",
        "name",
        "places",
        "quota",
        "returns",
        "strayed",
        "window",
    )

    def __init__(self, known: "KnownSessions") -> None:
        self.known = known
        self.name: Name = attrgetter("key")
        """What bindings name an endpoint by."""
        self.window = DEFAULT_WINDOW
        """Seconds without a request after which a session is forgotten."""
        self.epoch = 0
        """The policy's: what was known of a session before it was raised counts as no move of it."""
        self.returns = False
        """Clients go on showing old tokens, which may lead back to where a session has left."""
        self.strayed = False
        """A session was bound elsewhere here: else none is known at two places."""
        self.places: dict[bytes, Place] = {}
        """Those that keep sessions, by what bindings name them by."""
        self.gone: dict[bytes, Place] = {}
        """Those that keep them no more, until they are forgotten."""
        self.departures: deque[Departed] = deque(maxlen=MAX_DEPARTURES)
        """Newest first."""
        self.quota: Quota | None = None
        """What the endpoints take; None: there is no limit."""
        self.endpoints: Sequence[Endpoint] = ()
        self._named: tuple[Sequence[Endpoint], Mapping[bytes, Endpoint]] = (), {}
        """Endpoints, and one of them for each name."""

    def enter(
        self, session_id: bytes, endpoint: Endpoint, token: bytes, recheck: float, *, moved: bool = False
    ) -> None:
        """Know a session at an endpoint, by the token that it has shown or is being given.

        `moved`: it was bound elsewhere before, be it through another proxy.
        """
        known, marked = self.known, mark(token)
        place = self.places.get(self.name(endpoint)) or self._open(endpoint)
        if place.endpoint != endpoint.id:
            # Its successor, or another of its version.
            place.endpoint, place.pod = endpoint.id, endpoint.pod
        key = session_id[:ID_BYTES]
        session = place.sessions.get(key)
        if session is None:
            if moved or (self.strayed and self.returns):
                self._leave_others(key)
            if self.quota is not None:
                self.quota.confirm(key)
            if known.count >= MAX_SESSIONS:
                return
            known.count += 1
            session = place.sessions[key] = Session()
            session.place = place
        elif session.token != marked:
            known.tokens.pop(session.token, None)
        session.token = marked
        session.epoch = self.epoch
        session.recheck = recheck
        session.used = known.second
        known.tokens[marked] = session

    def follow(self, name: bytes, endpoint: Endpoint) -> None:
        """Have the bindings to that name looked at anew where its pod has begun anew since."""
        place = self.places.get(name)
        if place is not None and place.started < endpoint.started:
            place.started = endpoint.started
            self.doubt(name)

    def doubt(self, name: bytes) -> None:
        """Have the bindings to that name looked at anew: what was told of them is past."""
        place = self.places.get(name)
        if place is not None:
            place.doubt()

    def reopen(self, endpoint: Endpoint) -> None:
        """An endpoint keeps sessions again: those that it had are its own once more."""
        if self.name(endpoint) in self.gone:
            self._open(endpoint)

    def at(self, endpoint: Endpoint) -> int:
        """How many sessions are known at an endpoint."""
        place = self.places.get(self.name(endpoint))
        return 0 if place is None else len(place.sessions)

    def has_moved(self, session_id: bytes, token: bytes, new: Endpoint, recheck: float) -> bool:
        """Whether the session that shows this token is known at `new` already, by a later one of this epoch.

        `recheck`: the shown token's own. One of another proxy's is not known here, and may be the later.
        """
        place = self.places.get(self.name(new))
        session = None if place is None else place.sessions.get(session_id[:ID_BYTES])
        return (
            session is not None
            and session.token != mark(token)
            and session.recheck >= recheck
            and session.epoch == self.epoch
        )

    def use(self, session_id: bytes, endpoint: Endpoint) -> None:
        """Note that the session, which is known at the endpoint, made a request."""
        self.places[self.name(endpoint)].sessions[session_id[:ID_BYTES]].used = self.known.second

    def move(self, session_id: bytes, old: bytes, reason: BindingReason, now: float) -> None:
        """Note that a session leaves the endpoint named `old` for another."""
        self.strayed = True
        departed = self.end(session_id, old, reason, now)
        if departed is not None:
            departed.moved += 1

    def end(self, session_id: bytes, old: bytes, reason: BindingReason, now: float) -> Departed | None:
        """Note that a session leaves the endpoint named `old`: with whom it is counted."""
        key = session_id[:ID_BYTES]
        place = self.places.get(old) or self.gone.get(old)
        if place is None:
            endpoint = self._endpoint(old)
            if endpoint is None:
                # One that left before this proxy started: nobody here can name it.
                return None
            name = self.name(endpoint)
            place = self.places.get(name) or self.gone.get(name) or self._open(endpoint)
        session = place.sessions.pop(key, None)
        if session is not None:
            self.known.drop(session)
        departed = place.departures.get(reason)
        if departed is None or (place.left is None and now - departed.time > GATHER_SECONDS):
            # A place is left once, whenever its sessions come back: other proxies have told of it.
            began = place.left if reason in _LEFT else None
            departed = self._depart(place, reason, now if began is None else began)
        if session is None or place.left is None:
            # Otherwise it was dropped, and counted, with all the others when the place was left.
            departed.drop((key,))
        return departed

    def leave(self, endpoint: Endpoint, reason: BindingReason, now: float) -> None:
        """Note that an endpoint keeps sessions no more: those known there are dropped."""
        name = self.name(endpoint)
        place = self.places.pop(name, None)
        if place is None:
            if name in self.gone:
                return
            # Its sessions may still come back, known to other proxies, and the pod will want a name.
            place = Place(self, endpoint, name)
        place.left = now
        self.gone[place.key] = place
        if place.sessions:
            self._depart(place, reason, now).drop(place.sessions)

    def forget(self) -> None:
        """Forget all sessions, with the scope."""
        for place in (*self.places.values(), *self.gone.values()):
            for session in place.sessions.values():
                self.known.drop(session)
            place.sessions.clear()
        self.places.clear()
        self.gone.clear()

    def visit(self) -> Iterator[None]:
        """Forget sessions, places and departures whose time is over, a step at a time."""
        known = self.known
        for place in (*self.places.values(), *self.gone.values()):
            # A copy of the keys alone: pairs would be as many objects, made at once, while requests wait.
            for key in list(place.sessions):
                session = place.sessions.get(key)
                if session is not None and session.used + self.window <= known.second:
                    del place.sessions[key]
                    known.drop(session)
                yield
            if not place.sessions:
                self._tidy(place)
            yield
        while self.departures and self.departures[-1].time + DEPARTURE_SECONDS <= known.second:
            self.departures.pop()

    def _leave_others(self, key: bytes) -> None:
        """A session that goes to a place anew is known at no other: a later move there is another one."""
        for place in self.places.values():
            session = place.sessions.pop(key, None)
            if session is not None:
                self.known.drop(session)

    def _tidy(self, place: Place) -> None:
        """Forget a place without sessions that was left long ago, or is no endpoint's.

        An endpoint that goes while it is disabled leaves one: its sessions left one by one.
        """
        if place.left is None:
            if self._endpoint(place.key) is None:
                self.places.pop(place.key, None)
        elif place.left + DEPARTURE_SECONDS <= self.known.second:
            self.gone.pop(place.key, None)

    def _endpoint(self, name: bytes) -> Endpoint | None:
        """One that bindings name so, or did by another policy.

        Asked for seldom, so the names are found when they are.
        """
        if self._named[0] is not self.endpoints:
            named = {name: endpoint for endpoint in self.endpoints for name in endpoint.names}
            self._named = self.endpoints, named
        return self._named[1].get(name)

    def _open(self, endpoint: Endpoint) -> Place:
        name = self.name(endpoint)
        place = self.gone.pop(name, None)
        if place is None:
            place = Place(self, endpoint, name)
        else:
            # It has come back, or it is the last resort. Nobody saw whether its pod began anew meanwhile.
            place.left = None
            place.started = endpoint.started
            place.departures.clear()
            place.doubt()
        self.places[place.key] = place
        return place

    def _depart(self, place: Place, reason: BindingReason, now: float) -> Departed:
        departed = place.departures[reason] = Departed(place, reason, now)
        self.departures.appendleft(departed)
        return departed


class KnownSessions:
    """The sessions of all scopes, by token."""

    __slots__ = ("_begun", "_visits", "count", "homes", "placed", "second", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens: dict[bytes, Session] = {}
        """Tokens that were opened and held good, one for each session: garbage never enters.

        By their digests, for a token is half of what a session would cost.
        """
        self.count = 0
        self.second = now
        """The time of the last sweep: one float that all sessions share."""
        self._visits: Iterator[None] = iter(())
        # Of hashed values, which are no sessions: for all rules together, so that a flood is bounded.
        self.placed: Recent[Endpoint] = Recent()
        self.homes: Recent[bytes] = Recent()
        self._begun: Recent[float] = Recent()

    def drop(self, session: Session) -> None:
        """Forget a session that its place has let go."""
        self.count -= 1
        if self.tokens.get(session.token) is session:
            del self.tokens[session.token]

    def begins(self, number: bytes, created: float = 0.0) -> bool:
        """Whether the client that shows an old key of that number begins anew, and has not lately.

        `created`: when the session that has ended was: the next of that number may end as well.
        """
        key = int.from_bytes(number[:ID_BYTES])
        if self._begun.get(key) == created:
            return False
        self._begun.put(key, created)
        return True

    def reopen(self) -> None:
        """Have every token opened anew when it next comes: keys or policies have changed."""
        self.tokens = {}

    def sweep(self, scopes: Iterable[ScopeSessions], now: float) -> None:
        """Forget what has been idle too long, a slice of the whole at each call; four times a second."""
        self.second = now
        visits = max(SWEEP_AT_LEAST, ceil(self.count / SWEEP_TURN))
        begun = False
        for _ in range(visits):
            if next(self._visits, self) is self:
                if begun:
                    return
                begun = True
                self._visits = (step for scope in tuple(scopes) for step in scope.visit())
