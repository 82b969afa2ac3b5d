"""How an exchange comes to a connection: room on its endpoint, then one that is there or a new one.

What fails is tried again, there or elsewhere, as far as rule and retry budget allow: nothing of the request
has been sent yet.
"""

from abc import ABC, abstractmethod
from math import inf
from sys import maxsize
from time import monotonic
from typing import Final

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.accesslog import Record
from stickyroute_proxy.affinity.decision import HOME, Decision, Parked
from stickyroute_proxy.affinity.failover import give_up, refusal, turn_away
from stickyroute_proxy.affinity.retry import rechoose, sidestep
from stickyroute_proxy.seams import Client, Plane
from stickyroute_proxy.table import Endpoint, Rule
from stickyroute_proxy.wire import wait
from stickyroute_proxy.wire.admission import Cause
from stickyroute_proxy.wire.connect import Connect, Lack
from stickyroute_proxy.wire.errors import RETRIED, RETRY_AFTER
from stickyroute_proxy.wire.pool import Pool
from stickyroute_proxy.wire.queue import Queue
from stickyroute_proxy.wire.upstream import Upstream
from stickyroute_proxy.wire.wait import Wait

NO_HANDSHAKE: Final = "TLS handshake with the endpoint failed"


class Placement(ABC):
    """The part of an exchange that finds it a connection."""

    # The exchange sets them all: one for each request, it has no time for a second initialiser.
    __slots__ = (
        "_attempts",
        "_client",
        "_connecting",
        "_decision",
        "_ended",
        "_endpoint",
        "_key",
        "_plane",
        "_queue",
        "_record",
        "_repeatable",
        "_rule",
        "_started",
        "_tried",
        "_until",
        "_untrusted",
        "_wait",
    )

    _plane: Plane
    _client: Client
    _started: float
    _ended: bool
    _rule: Rule | None
    _repeatable: bool
    """The request may be sent twice."""
    _decision: Decision
    _endpoint: Endpoint | None
    """Where it has its room."""
    _key: bytes
    """In a stored scope: what the client's binding is kept under; empty when none is known."""
    _queue: "Queue[Placement] | None"
    """Where it waits, for room or for its endpoint."""
    _connecting: Connect | None
    _attempts: int
    """Further ones, after connections that did not come to be."""
    _tried: list[Endpoint] | None
    """Endpoints that took no connection."""
    _record: Record | None
    """For the access log; None: it is off."""
    _wait: Wait | None
    """What it waits for."""
    _until: float
    _untrusted: bool
    """The last attempt failed in the TLS handshake."""

    @abstractmethod
    def start(self, now: float) -> None:
        """Decide by the present table."""

    @abstractmethod
    def _send(self, upstream: Upstream, endpoint: Endpoint, now: float) -> None:
        """There is a connection."""

    @abstractmethod
    def _refuse(
        self, status: int, message: str, *, last: bool = False, location: bytes = b"", extra: bytes = b""
    ) -> None:
        """There will be none."""

    @abstractmethod
    def _shed(self, cause: Cause, message: str, *, last: bool = False) -> None:
        """Turn the request away, so that others are served."""

    def _attempt(self, rule: Rule, decision: Decision, now: float) -> None:
        """Send the request where the decision says, as soon as there is room."""
        self._decision = decision
        if self._record is not None:
            self._record.decision = decision
        endpoint = decision.endpoint
        if endpoint is None:
            self._unplaced(rule, decision, now)
            return
        room = rule.limits.requests_per_endpoint
        if room and (endpoint.in_flight >= room or endpoint.queue):
            plane = self._plane
            head, tried = self._client.head, self._tried or ()
            decision = self._decision = sidestep(rule, head, decision, room, plane.random, tried=tried)
            if self._record is not None:
                self._record.decision = decision
            endpoint = decision.endpoint or endpoint
            if endpoint.in_flight >= room or endpoint.queue:
                self._enqueue(rule, endpoint)
                return
        self._endpoint = endpoint
        endpoint.in_flight += 1
        self._reach(endpoint, now)

    def _unplaced(self, rule: Rule, decision: Decision, now: float) -> None:
        """There is no endpoint: it is waited for, or what comes instead is the policy's."""
        if isinstance(decision, Parked):
            if not self._park(rule, decision, now):
                tried = self._tried or ()
                self._attempt(rule, give_up(rule, decision, self._plane.clock(), tried), now)
        elif decision.reason is BindingReason.AT_LIMIT and rule.scope.policy.limits.overflow == "Queue":
            self._await_limit(rule)
        elif self._untrusted:
            # Endpoints are there, but have to be mended: to ask again soon will not help.
            self._refuse(502, NO_HANDSHAKE)
        else:
            status, message, location = refusal(rule, decision)
            extra = b"" if location or status in RETRIED else b"Retry-After: %d\r\n" % RETRY_AFTER
            if decision.set_token is not None:
                extra += rule.scope.carrier.given(b"", self._client.secure)
                if rule.scope.stored:
                    self._plane.memory.forget(self._key)
            self._refuse(status, message, location=location, extra=extra)

    def _reach(self, endpoint: Endpoint, now: float) -> None:
        """Send by a connection that is there, or by a new one."""
        pool: Pool | None = endpoint.pool
        upstream = pool.take(now, self._repeatable) if pool is not None else None
        if upstream is None:
            self._connect(endpoint)
        else:
            self._send(upstream, endpoint, now)

    def _connect(self, endpoint: Endpoint) -> None:
        self._await(wait.CONNECTION)
        if self._record is not None:
            self._record.connecting = monotonic()
        self._connecting = self._plane.connect(endpoint, self)

    # Connecting

    def connected(self, upstream: Upstream) -> None:
        """The connection that was asked for is there."""
        self._plane.counters.connects += 1
        self._connecting = None
        if self._ended or self._endpoint is None:
            upstream.close()
            return
        self._wait = None
        if self._record is not None:
            self._record.connected(monotonic())
        if self._left(self._endpoint):
            upstream.close()
            self._begin_anew()
        elif upstream.closing:
            self.connect_failed()  # accepted and closed at once
        else:
            self._send(upstream, self._endpoint, monotonic())

    def connect_failed(self, lack: Lack | None = None) -> None:
        """No connection could be opened; `lack`: of what, if this process is the reason."""
        connecting, self._connecting = self._connecting, None
        if self._ended:
            return
        if lack is Lack.FILES:
            self._shed(Cause.OPEN_FILES, "this proxy can open no more connections")
            return
        if lack is Lack.PORTS and self._decision.reason in HOME:
            # Its endpoint is well, and keeps its session.
            self._shed(Cause.PORTS, "this proxy can open no more connections to the endpoint")
            return
        self._untrusted = connecting is not None and connecting.handshake
        message = NO_HANDSHAKE if self._untrusted else "the endpoint took no connection"
        self._unreached(502, message, blame=lack is None)

    def _unreached(self, status: int, message: str, *, blame: bool = True) -> None:
        """No connection came to be: a bound session tries once more there, then it goes elsewhere.

        `blame`: it tells something of the endpoint.
        """
        plane, rule, endpoint = self._plane, self._rule, self._endpoint
        plane.counters.connect_failures += 1
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._wait = None
        if rule is None or endpoint is None:
            return
        if blame:
            self._tell_failure()
        if self._left(endpoint):
            self._begin_anew()
            return
        if self._attempts >= rule.attempts or not self._may_retry():
            self._refuse(status, message)
            return
        self._attempts += 1
        if self._decision.reason in HOME and self._attempts == 1:
            self._connect(endpoint)
            return
        tried = self._tried = [*(self._tried or ()), endpoint]
        self._release()
        head, failed = self._client.head, self._decision
        decision = rechoose(rule, head, failed, plane.clock(), plane.random, tried=tried)
        self._attempt(rule, decision, monotonic())

    def _tell_failure(self) -> None:
        """The endpoint has failed the request."""
        endpoint = self._endpoint
        if endpoint is not None and endpoint.judge is not None:
            self._plane.health.failed(endpoint)

    def _may_retry(self) -> bool:
        counters = self._plane.counters
        if self._plane.budget.allows(counters.requests):
            counters.retries += 1
            if self._record is not None:
                self._record.tell(retries=1)
            return True
        counters.retries_denied += 1
        return False

    @staticmethod
    def _left(endpoint: Endpoint) -> bool:
        """Whether the endpoint has left since it was chosen: its address may be another pod's by now."""
        pool: Pool | None = endpoint.pool
        return pool is not None and pool.closed

    def _begin_anew(self) -> None:
        """Nothing has been answered, and what was decided holds no more: decide by the present table."""
        self._release()
        self.start(monotonic())

    # Waiting for room

    @property
    def room(self) -> int:
        """There is room for it while fewer requests than that are in flight on the endpoint."""
        return 0 if self._rule is None else self._rule.limits.requests_per_endpoint or maxsize

    def _enqueue(self, rule: Rule, endpoint: Endpoint) -> None:
        queue: Queue[Placement] | None = endpoint.queue
        if queue is None:
            queue = endpoint.queue = Queue()
        if len(queue) >= rule.limits.queue:
            self._shed(Cause.QUEUE_FULL, "as many requests as may wait for the endpoint do so already")
            return
        self._join(queue)
        self._await(wait.ROOM, self._started)

    def _join(self, queue: "Queue[Placement]") -> None:
        queue.join(self)
        self._queue = queue
        counters = self._plane.counters
        counters.queued += 1
        counters.queued_total += 1

    def _await_limit(self, rule: Rule) -> None:
        """Wait until any endpoint is below the scope's limits."""
        quota = rule.scope.sessions.quota
        assert quota is not None  # noqa: S101 - else there is no limit to be at
        if quota.waiting is None:
            quota.waiting = Queue()
        queue: Queue[Placement] = quota.waiting
        if len(queue) >= rule.limits.queue:
            turn_away(rule.scope)
            self._shed(Cause.QUEUE_FULL, "as many requests as may wait for any endpoint do so already")
            return
        self._join(queue)
        self._await(wait.LIMIT, self._started)

    def _give_up_queueing(self, rule: Rule, what: Wait) -> None:
        """No room came in time."""
        if what is wait.LIMIT:
            turn_away(rule.scope)
        self._shed(Cause.QUEUE_TIMEOUT, what.told(rule))

    def _leave(self, queue: "Queue[Placement]") -> None:
        """Wait no more; who waits behind for the same endpoint may have room where this one had none."""
        queue.leave(self)
        self._dequeued()
        endpoint = self._decision.endpoint
        if endpoint is not None and endpoint.queue:
            admit_waiting(endpoint)

    def _dequeued(self) -> None:
        self._queue = None
        self._plane.counters.queued -= 1
        self._wait = None

    def admit(self, endpoint: Endpoint) -> None:
        """It waited, and there is room: taken at once, and used when the one who made room is done."""
        self._dequeued()
        self._endpoint = endpoint
        endpoint.in_flight += 1
        self._plane.loop.call_soon(self._admitted)

    def _admitted(self) -> None:
        endpoint = self._endpoint
        if self._ended or endpoint is None:
            return
        if self._left(endpoint):
            self._begin_anew()
        else:
            self._reach(endpoint, monotonic())

    def _park(self, rule: Rule, decision: Parked, now: float) -> bool:
        """Wait for the session's endpoint, its body unread; False: it has, or too many do."""
        scope, name = rule.scope, decision.lost.binding.endpoint
        until = self._started + scope.policy.failover.hold
        queue: Queue[Placement] = scope.parked.get(name) or Queue()
        if now >= until or len(queue) >= rule.limits.queue:
            return False
        scope.parked[name] = queue
        self._join(queue)
        self._tried = None
        self._attempts = 0  # whoever wakes it may bring it another try, or none is left for the policy's mode
        self._await_until(wait.HOLD, until)
        return True

    def _unpark(self) -> None:
        """It has waited long enough."""
        if self._queue is not None:
            self._queue.leave(self)
        self.reconsider()

    def reconsider(self) -> None:
        """What it waited for has left, keeps no sessions any more, or has come back."""
        self._dequeued()
        self.start(monotonic())

    def _release(self) -> None:
        """Give the endpoint's room to the next."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.in_flight -= 1
            if endpoint.queue:
                admit_waiting(endpoint)

    # Waiting

    def _await(self, what: Wait, since: float | None = None) -> None:
        """The time for this runs, from now if not `since`, and for nothing else but the whole."""
        rule = self._rule
        seconds = 0.0 if rule is None else what.seconds(rule)
        self._await_until(what, (since or monotonic()) + seconds if seconds else inf)

    def _await_until(self, what: Wait, until: float) -> None:
        self._wait = what
        self._until = until
        client = self._client
        if until < client.due:  # noqa: PLR1730 - `min` costs ten times as much
            client.due = until


def admit_waiting(endpoint: Endpoint) -> None:
    """Let those go on who wait for the endpoint, as far as there is room."""
    queue: Queue[Placement] = endpoint.queue
    while (exchange := queue.pop(endpoint.in_flight)) is not None:
        exchange.admit(endpoint)
