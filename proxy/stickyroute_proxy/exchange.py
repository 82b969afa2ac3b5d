"""One request and its answer: the seam between what clients speak and where requests go.

An `Exchange` asks table and affinity for an endpoint, gets a connection to it, and passes the request up and
the answer down. It knows neither the client's protocol (that side is a `Client`; HTTP/2 streams can be
others) nor how bytes are parsed. Routing and affinity know nothing of it.
"""

from math import inf
from sys import maxsize
from time import monotonic
from typing import Final

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.choose import Decision, choose, prolong, rechoose, sidestep
from stickyroute_proxy.affinity.cookie import may_set, set_cookie
from stickyroute_proxy.seams import Client, Plane
from stickyroute_proxy.table import Endpoint, Rule
from stickyroute_proxy.wire import wait
from stickyroute_proxy.wire.admission import Cause
from stickyroute_proxy.wire.answer import AnswerHead, chunk
from stickyroute_proxy.wire.connect import Connect
from stickyroute_proxy.wire.head import IDEMPOTENT, RequestHead
from stickyroute_proxy.wire.parser import CHUNKED, Slice
from stickyroute_proxy.wire.pool import Pool
from stickyroute_proxy.wire.queue import Queue
from stickyroute_proxy.wire.upstream import Upstream
from stickyroute_proxy.wire.wait import Wait

MAX_TRIED: Final = 3
"""How many endpoints may fail to take a connection before the client is told."""


class Exchange:
    """Exactly one answer for one request, whatever happens."""

    __slots__ = (
        "_allowed",
        "_answered",
        "_attempts",
        "_client",
        "_connecting",
        "_decision",
        "_ended",
        "_endpoint",
        "_plane",
        "_queue",
        "_repeatable",
        "_repeated",
        "_rule",
        "_started",
        "_status",
        "_tried",
        "_unread",
        "_until",
        "_upstream",
        "_wait",
        "deadline",
        "request_sent",
    )

    deadline: float
    """When the whole exchange has to be over, on the monotonic clock."""
    request_sent: bool
    """The request has gone upstream to its end."""

    def __init__(self, plane: Plane, client: Client) -> None:
        self._plane = plane
        self._client = client
        self._started = monotonic()
        self._rule: Rule | None = None
        self._endpoint: Endpoint | None = None
        self._upstream: Upstream | None = None
        self._connecting: Connect | None = None
        self._queue: Queue[Exchange] | None = None
        self._wait: Wait | None = None
        self._until = self.deadline = inf
        self._tried: list[Endpoint] | None = None
        self._attempts = 0
        self._status = 0
        self._answered = self._ended = self._repeated = False
        self.request_sent = False
        counters = plane.counters
        counters.requests += 1
        counters.exchanges += 1

    # Deciding and sending

    def start(self) -> None:
        """Decide on the client's head, and send it."""
        plane = self._plane
        counters = plane.counters
        if counters.exchanges > plane.admission.requests:
            others = counters.exchanges - counters.tunnels - 1
            refusal = plane.admission.request(others, first=self._client.first)
            if refusal is not None:
                # What it asks next on this connection would not be its first.
                self._shed(refusal.cause, refusal.message, last=refusal.cause is Cause.OVERLOAD)
                return
        head = self._client.head
        table = plane.table
        if table is None:
            self._refuse(503, "this proxy has no configuration yet")
            return
        rule = table.find(head.host, head.path, head.query, head.method, head.headers)
        if rule is None:
            self._refuse(404, "no route serves this host and path")
            return
        self._rule = rule
        timeout = rule.timeouts.request
        self.deadline = self._client.due = self._started + timeout if timeout else inf
        if head.body and not self._admits_body(rule, head):
            return
        self._repeatable = not head.body and head.method in IDEMPOTENT
        self._attempt(rule, choose(rule, head.cookies, plane.clock(), plane.random))

    def _admits_body(self, rule: Rule, head: RequestHead) -> bool:
        """Whether the body is within its limit, as far as the head tells; refused otherwise."""
        limit = rule.limits.body_bytes
        if limit is None:
            limit = self._plane.settings.limits.body_bytes
        self._allowed = limit or inf
        if head.body > self._allowed:
            self._refuse_body()
            return False
        return True

    def _attempt(self, rule: Rule, decision: Decision) -> None:
        """Send the request where the decision says, as soon as there is room."""
        self._decision = decision
        self._attempts = 0
        endpoint = decision.endpoint
        if endpoint is None:
            self._refuse(503, "no endpoint can serve this request now")
            return
        room = rule.limits.requests_per_endpoint
        if room and (endpoint.in_flight >= room or endpoint.queue):
            plane = self._plane
            tried = self._tried or ()
            self._decision = sidestep(rule, decision, room, tried, plane.random)
            endpoint = self._decision.endpoint or endpoint
            if endpoint.in_flight >= room or endpoint.queue:
                self._enqueue(rule, endpoint)
                return
        self._endpoint = endpoint
        endpoint.in_flight += 1
        self._reach(endpoint, self._started)

    def _reach(self, endpoint: Endpoint, now: float) -> None:
        """Send by a connection that is there, or by a new one."""
        pool: Pool | None = endpoint.pool
        upstream = pool.take(now, repeatable=self._repeatable) if pool is not None else None
        if upstream is None:
            self._connect(endpoint)
        else:
            self._send(upstream, endpoint)

    def _connect(self, endpoint: Endpoint) -> None:
        self._await(wait.CONNECTION)
        self._connecting = self._plane.connect(endpoint, self)

    def _send(self, upstream: Upstream, endpoint: Endpoint) -> None:
        self._upstream = upstream
        client, decision, rule = self._client, self._decision, self._rule
        assert rule is not None  # noqa: S101 - only a routed request gets here
        head = client.head
        authority = head.authority or b"%b:%d" % (endpoint.address.encode(), endpoint.port)
        scope = rule.scope
        written = head.write(
            authority,
            scope.cookie_name if scope.sticky else b"",
            rule.notify_header,
            decision.notice,
            client.forwarding(authority),
        )
        if head.body:
            self._await(wait.BODY)
            upstream.cork()
            upstream.begin(self, written, to_head=False)
            client.proceed()
            upstream.uncork()
        else:
            self.request_sent = True
            if rule.timeouts.first_byte:
                self._await(wait.ANSWER)
            upstream.begin(self, written, to_head=head.method == b"HEAD")

    # Waiting for room

    @property
    def room(self) -> int:
        """There is room for it while fewer requests than that are in flight on the endpoint."""
        return 0 if self._rule is None else self._rule.limits.requests_per_endpoint or maxsize

    def _enqueue(self, rule: Rule, endpoint: Endpoint) -> None:
        queue: Queue[Exchange] | None = endpoint.queue
        if queue is None:
            queue = endpoint.queue = Queue()
        if len(queue) >= rule.limits.queue:
            self._shed(Cause.QUEUE_FULL, "as many requests as may wait for the endpoint do so already")
            return
        queue.join(self)
        self._queue = queue
        counters = self._plane.counters
        counters.queued += 1
        counters.queued_total += 1
        self._await(wait.ROOM, self._started)

    def _dequeued(self) -> None:
        self._queue = None
        self._plane.counters.queued -= 1
        self._await(None)

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

    def reconsider(self) -> None:
        """It waited for an endpoint that has left, or keeps no sessions any more."""
        self._dequeued()
        self.start()

    # What the client's side tells

    @property
    def answered(self) -> bool:
        """Whether part of the answer has been passed on."""
        return self._answered

    @property
    def can_send(self) -> bool:
        """Whether the request's body may be given to `send`."""
        return self._upstream is not None and self._upstream.writable

    @property
    def wants_tunnel(self) -> bool:
        return self._client.head.websocket

    def send(self, parts: list[Slice], *, last: bool) -> None:
        """Pass on a part of the request's body."""
        upstream = self._upstream
        if upstream is None:
            return
        size = sum(map(len, parts))
        self._plane.counters.received_bytes += size
        if self._client.head.body == CHUNKED:
            self._allowed -= size
            if self._allowed < 0:
                self._refuse_body()
                return
            parts = chunk(parts, last=last)
        if last:
            self.request_sent = True
        if not self._answered:
            self._await(wait.ANSWER if last else wait.BODY)
        if parts:
            upstream.send(parts)

    def client_full(self) -> None:
        """The client takes no more of the answer for now."""
        if self._upstream is not None:
            self._upstream.pause()
            if self._answered:
                self._unread = self._client.unread
                self._await(wait.CLIENT)

    def client_drained(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()
            if self._answered:
                self._await(None)

    def abandon(self) -> None:
        """The client has gone."""
        self._status = 0
        self._finish()

    # Deadlines

    def _await(self, what: Wait | None, since: float | None = None) -> None:
        """The time for this runs, from now if not `since`, and for nothing else but the whole."""
        rule = self._rule
        seconds = 0.0 if what is None or rule is None else what.seconds(rule)
        self._wait = what
        self._until = (since or monotonic()) + seconds if seconds else inf
        self._client.due = min(self._until, self.deadline)

    def expire(self, now: float) -> None:
        """The client's `due` has come."""
        rule, what = self._rule, self._wait
        if rule is None:
            return
        if now >= self.deadline:
            what = wait.WHOLE if self.request_sent or self._upstream is None else wait.WHOLE_BODY
        elif what is None or now < self._until:
            return
        if what is wait.CONNECTION:
            self._unreached(what.status, what.told(rule))
        elif what is wait.CLIENT and self._client.unread < self._unread:
            self._unread = self._client.unread  # it does take something
            self._await(what)
        elif self._answered:
            self._cut()
        elif what is wait.ROOM:
            self._shed(Cause.QUEUE_TIMEOUT, what.told(rule))
        else:
            self._refuse(what.status, what.told(rule))

    # What the connection upstream tells

    def connected(self, upstream: Upstream) -> None:
        """The connection that was asked for is there."""
        self._plane.counters.connects += 1
        self._connecting = None
        if self._ended or self._endpoint is None:
            upstream.close()
            return
        self._await(None)
        if self._left(self._endpoint):
            upstream.close()
            self._begin_anew()
        elif upstream.closing:
            self.connect_failed()  # accepted and closed at once
        else:
            self._send(upstream, self._endpoint)

    def connect_failed(self, ours: bool = False) -> None:
        """No connection could be opened; `ours`: because this process can open no more files."""
        self._connecting = None
        if self._ended:
            return
        if ours:
            self._shed(Cause.OPEN_FILES, "this proxy can open no more connections")
        else:
            self._unreached(502, "the endpoint took no connection")

    def _unreached(self, status: int, message: str) -> None:
        """No connection came to be: once more there for a bound session, then elsewhere."""
        plane, rule, endpoint = self._plane, self._rule, self._endpoint
        plane.counters.connect_failures += 1
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._await(None)
        if rule is None or endpoint is None:
            return
        if self._left(endpoint):
            self._begin_anew()
            return
        bound = self._decision.reason is BindingReason.BOUND and self._attempts < rule.retries.attempts
        tried = self._tried or []
        if not bound:
            tried = self._tried = [*tried, endpoint]
        if not rule.retries.attempts or len(tried) >= MAX_TRIED or not self._may_retry():
            self._refuse(status, message)
        elif bound:
            self._attempts += 1
            self._connect(endpoint)
        else:
            self._release()
            self._attempt(rule, rechoose(rule, self._decision, tried, plane.clock(), plane.random))

    def _may_retry(self) -> bool:
        counters = self._plane.counters
        if self._plane.budget.allows(counters.requests):
            counters.retries += 1
            return True
        counters.retries_denied += 1
        return False

    def upstream_failed(self, upstream: Upstream, message: str) -> None:
        """The connection broke, or what came was no answer."""
        if upstream is not self._upstream:
            return
        self._upstream = None
        if self._answered:
            self._cut()
        elif (
            self._endpoint
            and self._repeatable
            and upstream.unanswered_reuse
            and not self._repeated
            and self._may_retry()
        ):
            # It closed while our request was on its way: an idle connection's ordinary end.
            self._repeated = True
            if self._left(self._endpoint):
                self._begin_anew()
            else:
                self._connect(self._endpoint)
        else:
            self._refuse(502, f"the endpoint gave no answer: {message}")

    @staticmethod
    def _left(endpoint: Endpoint) -> bool:
        """Whether the endpoint has left since it was chosen: its address may be another pod's by now."""
        pool: Pool | None = endpoint.pool
        return pool is not None and pool.closed

    def _begin_anew(self) -> None:
        """Nothing has been answered, and what was decided holds no more: decide by the present table."""
        self._release()
        self.start()

    def upstream_full(self) -> None:
        """The endpoint takes no more of the request's body for now."""
        self._client.hold()
        if not self.request_sent and not self._answered:
            self._await(wait.ENDPOINT)

    def upstream_drained(self) -> None:
        if not self.request_sent and not self._answered:
            self._await(wait.BODY)
        self._client.unhold()

    def interim(self, answer: AnswerHead) -> None:
        self._client.interim(answer)

    def answer(self, answer: AnswerHead, parts: list[Slice], *, last: bool) -> None:
        """The answer's head has come, and what of its body came with it."""
        self._answered = True
        self._status = answer.status
        if self._wait is not None:
            self._await(None)
        if parts:
            self._plane.counters.sent_bytes += sum(map(len, parts))
        told = self._decision.set_token is not None or answer.long_lived
        self._client.answer(answer, self._set_cookie(answer) if told else b"", parts, last=last)

    def _set_cookie(self, answer: AnswerHead) -> bytes:
        """The lines that give the client its token; empty where it has the right one."""
        decision, rule = self._decision, self._rule
        assert rule is not None  # noqa: S101 - only a routed request has an answer
        token = decision.set_token
        if answer.long_lived and decision.token is not None:
            token = prolong(rule, decision, self._plane.clock())
        if token is None or not may_set(answer.status, answer.cache_control):
            return b""
        line = set_cookie(rule.scope, token, self._client.secure)
        directives = (answer.cache_control or b"").lower().split(b",")
        if any(directive.strip(b" \t") in (b"private", b"no-store") for directive in directives):
            return line
        return line + b"Cache-Control: private\r\n"

    def payload(self, parts: list[Slice], *, last: bool) -> None:
        """More of the answer's body has come."""
        self._plane.counters.sent_bytes += sum(map(len, parts))
        self._client.payload(parts, last=last)

    def ended(self, now: float) -> None:
        """The answer is complete; the connection has been taken care of."""
        self._upstream = None
        self._finish(now)
        self._client.end(now)

    def open_tunnel(self, upstream: Upstream, answer: AnswerHead, rest: bytes) -> None:
        """The answer is 101: from here on bytes go both ways as they come."""
        rule = self._rule
        assert rule is not None  # noqa: S101 - only a routed request has an answer
        self._answered = True
        self._status = 101
        self._upstream = None
        self.deadline = inf
        self._await(None)
        self._client.tunnel(upstream, answer, self._set_cookie(answer), rest, rule.timeouts.idle)

    def tunnel_closed(self) -> None:
        self._finish()

    # Ending

    def _refuse(self, status: int, message: str, *, last: bool = False) -> None:
        self._status = status
        refused = self._plane.counters.refused
        refused[status] = refused.get(status, 0) + 1
        self._finish()
        self._client.refuse(status, message, last=last)

    def _shed(self, cause: Cause, message: str, *, last: bool = False) -> None:
        """Turn the request away, so that others are served."""
        self._plane.counters.count_shed(cause)
        self._refuse(503, message, last=last)

    def _refuse_body(self) -> None:
        if self._answered:
            self._cut()
        else:
            self._refuse(413, "the request's body is larger than this route takes")

    def _cut(self) -> None:
        """The answer has begun, and cannot come to its end."""
        self._finish()
        self._client.truncate()

    def _release(self) -> None:
        """Give the endpoint's room to the next."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.in_flight -= 1
            if endpoint.queue:
                admit_waiting(endpoint)

    def _finish(self, now: float | None = None) -> None:
        """Give everything back and count, once."""
        if self._ended:
            return
        self._ended = True
        self._release()
        if self._queue is not None:
            self._queue.leave(self)
            self._dequeued()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        counters, rule = self._plane.counters, self._rule
        counters.exchanges -= 1
        if rule is None:
            counter = counters.unrouted
        elif (counter := rule.counter) is None:
            counter = rule.counter = counters.of(rule.route, rule.name)
        counter.add(self._status, (now or monotonic()) - self._started)


def admit_waiting(endpoint: Endpoint) -> None:
    """Let those go on who wait for the endpoint, as far as there is room."""
    queue: Queue[Exchange] = endpoint.queue
    while (exchange := queue.pop(endpoint.in_flight)) is not None:
        exchange.admit(endpoint)
