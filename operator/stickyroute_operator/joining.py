"""Which endpoints every current proxy knows.

A new pod takes new sessions only when each proxy can honour them: else one would bind a session to a pod
that another does not know yet, and would move it. Pure, but for what it remembers; time is passed in.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from stickyroute_api.snapshot import Endpoint, Version

CAP = 2.0
"""Seconds after which a silent proxy is waited for no longer."""

Sets = Mapping[str, tuple[Endpoint, ...]]


class Joining:
    """The endpoints published so far, by endpoint set: known to all, or waiting for it."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}
        self._waiting: dict[tuple[str, str], tuple[Version, float]] = {}
        self._published: Sets = {}

    @property
    def known(self) -> Mapping[str, frozenset[str]]:
        """By set, the identities that every current proxy knows: `State.acknowledged`."""
        return MappingProxyType(self._known)

    @property
    def deadline(self) -> float | None:
        """When the next endpoint is taken as known in any case."""
        if not self._waiting:
            return None
        return min(since for _, since in self._waiting.values()) + CAP

    def published(self, sets: Sets, version: Version, now: float) -> None:
        """Remembers what a snapshot holds. What it does not hold is forgotten: it would join anew."""
        for key in self._published.keys() - sets.keys():
            self._forget(key, frozenset())
        for key, endpoints in sets.items():
            if self._published.get(key) is endpoints:
                continue
            present = frozenset(endpoint.id for endpoint in endpoints)
            self._forget(key, present)
            for identity in present - self._known.get(key, frozenset()):
                self._waiting.setdefault((key, identity), (version, now))
        self._published = sets

    def settle(self, acknowledged: Iterable[Version | None], now: float) -> bool:
        """Takes what each current proxy holds; whether more endpoints are known to all now."""
        if not self._waiting:
            return False
        least = min((version or Version(0, 0) for version in acknowledged), default=None)
        done = [
            place
            for place, (version, since) in self._waiting.items()
            if least is None or least >= version or now >= since + CAP
        ]
        added: dict[str, set[str]] = {}
        for place in done:
            del self._waiting[place]
            added.setdefault(place[0], set()).add(place[1])
        for key, identities in added.items():
            self._known[key] = self._known.get(key, frozenset()) | identities
        return bool(done)

    def _forget(self, key: str, present: frozenset[str]) -> None:
        kept = self._known.get(key, frozenset()) & present
        if kept:
            self._known[key] = kept
        else:
            self._known.pop(key, None)
        for place in [place for place in self._waiting if place[0] == key and place[1] not in present]:
            del self._waiting[place]
