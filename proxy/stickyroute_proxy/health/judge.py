"""What is made of good and bad news about the endpoints of one set. Pure.

Active checks find an endpoint unhealthy: it keeps no sessions. Passive ones eject it for a while: it takes no
new sessions. Neither is believed beyond its measure: checks that fail nearly everywhere tell of something
else than the pods, and ejecting most of them would bring down the rest.
"""

from typing import Final

from stickyroute_api.snapshot import HealthCheck
from stickyroute_proxy.affinity.endpoint import KEEPS, Endpoint

GATEWAY_ERRORS: Final = frozenset({502, 503, 504})
"""Answers by which an endpoint says itself that it cannot serve; other errors are the application's own."""


class _Record:
    """What is known of one endpoint."""

    __slots__ = ("failing", "failures", "streak")

    failing: bool
    """By the active check."""
    streak: int
    """Checks in a row that contradict `failing`."""
    failures: int
    """Clients' requests in a row that failed."""

    def __init__(self) -> None:
        self.failing = False
        self.streak = self.failures = 0


class Judge:
    """The health of one set's endpoints, by one policy. Times are Unix seconds."""

    __slots__ = ("_records", "endpoints", "panics", "policy")

    policy: HealthCheck
    endpoints: tuple[Endpoint, ...]
    panics: bool
    """So many endpoints fail the active check that it is not believed."""

    def __init__(self) -> None:
        self._records: dict[Endpoint, _Record] = {}
        self.endpoints = ()
        self.panics = False

    def follow(self, policy: HealthCheck, endpoints: tuple[Endpoint, ...]) -> list[Endpoint]:
        """Judge these by this policy from now on; those whose verdict has changed. A new one is well."""
        self.policy = policy
        self.endpoints = endpoints
        self._records = {one: self._records.get(one) or _Record() for one in endpoints}
        changed = []
        if policy.active is None:
            for record in self._records.values():
                record.failing = False
        if policy.passive is None:
            changed = [one for one in endpoints if one.ejected_until]
            for one in changed:
                one.ejected_until = 0.0
        return list({*changed, *self._settle()})

    def knows(self, endpoint: Endpoint) -> bool:
        """Whether it is one of the set's still."""
        return endpoint in self._records

    def checked(self, endpoint: Endpoint, *, good: bool) -> list[Endpoint]:
        """An active check has ended; the endpoints whose verdict changes by it."""
        record, active = self._records.get(endpoint), self.policy.active
        if record is None or active is None:
            return []
        if good is not record.failing:
            record.streak = 0
            return []
        record.streak += 1
        if record.streak < (active.healthy if good else active.unhealthy):
            return []
        record.streak = 0
        record.failing = not good
        return self._settle()

    def answered(self, endpoint: Endpoint, status: int, now: float) -> bool:
        """A client's request got an answer of the endpoint's own; whether that ejects the endpoint."""
        if status in GATEWAY_ERRORS:
            return self.failed(endpoint, now)
        record = self._records.get(endpoint)
        if record is not None:
            record.failures = 0
        return False

    def failed(self, endpoint: Endpoint, now: float) -> bool:
        """A client's request got no answer; whether that ejects the endpoint."""
        record, passive = self._records.get(endpoint), self.policy.passive
        if record is None or passive is None or now < endpoint.ejected_until:
            return False
        record.failures += 1
        if record.failures < passive.consecutive_failures:
            return False
        out = sum(1 for one in self.endpoints if now < one.ejected_until)
        if (out + 1) * 100 > len(self.endpoints) * passive.max_ejected_percent:
            return False
        record.failures = 0
        endpoint.ejected_until = now + passive.eject_for
        return True

    def _settle(self) -> list[Endpoint]:
        """Bring the endpoints in step with what is believed; those that change."""
        counted = [one for one in self.endpoints if one.state in KEEPS]  # the others are not ready anyway
        well = sum(1 for one in counted if not self._records[one].failing)
        self.panics = well * 100 < len(counted) * self.policy.panic_percent
        changed = []
        for one in self.endpoints:
            unhealthy = self._records[one].failing and not self.panics
            if one.unhealthy is not unhealthy:
                one.unhealthy = unhealthy
                changed.append(one)
        return changed
