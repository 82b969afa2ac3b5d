"""One request and its answer: the seam between what clients speak and where requests go.

An `Exchange` asks table and affinity for an endpoint, gets a connection to it (`placement`), and passes the
request up and the answer down. It knows neither the client's protocol (that side is a `Client`; HTTP/2
streams can be others) nor how bytes are parsed. Routing and affinity know nothing of it.
"""

from bisect import bisect_left
from math import inf
from time import monotonic

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.accesslog import Record
from stickyroute_proxy.affinity.bind import followed
from stickyroute_proxy.affinity.choose import choose, choose_bound
from stickyroute_proxy.affinity.token import Binding
from stickyroute_proxy.changes import Changes
from stickyroute_proxy.issue import change, drop_all_ours, give, learn, wrap
from stickyroute_proxy.placement import Placement
from stickyroute_proxy.seams import Client, Plane
from stickyroute_proxy.store.memory import WAIT, Result
from stickyroute_proxy.table import Endpoint, Rule
from stickyroute_proxy.wire import wait
from stickyroute_proxy.wire.admission import Cause
from stickyroute_proxy.wire.answer import AnswerHead, chunk
from stickyroute_proxy.wire.counters import BUCKETS, MS_1, MS_2_5, MS_5
from stickyroute_proxy.wire.head import IDEMPOTENT, RequestHead
from stickyroute_proxy.wire.parser import CHUNKED, Slice
from stickyroute_proxy.wire.tunnel import Home
from stickyroute_proxy.wire.upstream import Upstream


class Exchange(Placement):
    """Exactly one answer for one request, whatever happens."""

    __slots__ = (
        "_allowed",
        "_answered",
        "_patience",
        "_recalled_at",
        "_repeated",
        "_status",
        "_unread",
        "_upstream",
        "deadline",
        "request_sent",
    )

    deadline: float
    """When the whole exchange has to be over, on the monotonic clock."""
    request_sent: bool
    """The request has gone upstream to its end."""
    _patience: float
    """Seconds that it may still wait for the store; unset before it does, for most requests never do."""
    _recalled_at: float
    """When it began to, on the monotonic clock."""

    def __init__(self, plane: Plane, client: Client, now: float) -> None:
        self._plane = plane
        self._client = client
        self._started = now
        self._rule = self._endpoint = self._queue = self._connecting = self._tried = self._wait = None
        self._upstream: Upstream | None = None
        self._until = self.deadline = inf
        self._attempts = 0
        self._status = 0
        self._answered = self._ended = self._repeated = False
        self._untrusted = self.request_sent = False
        self._key = b""
        self._record = None
        if plane.log is not None:
            head = client.head
            if not head.told:
                head.secure = client.secure
            record = head.record
            if record is None:
                record = head.record = Record()
            record.first_byte = record.decision = None
            record.sent = 0
            record.started = now
            self._record = record
        plane.counters.requests += 1

    # Deciding and sending

    def start(self, now: float) -> None:
        """Decide on the client's head, and send it."""
        plane = self._plane
        counters = plane.counters
        # One that decides anew was let in before.
        if counters.requests - counters.ended > plane.admission.requests and self._rule is None:
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
        if rule.changes.redirects and self._redirect(rule.changes):
            return
        if head.body and not self._admits_body(rule, head):
            return
        self._repeatable = not head.body and head.method in IDEMPOTENT
        if rule.scope.stored:
            self._recall(rule, head)
        else:
            self._attempt(rule, choose(rule, head, plane.clock(), plane.random), now)

    def _recall(self, rule: Rule, head: RequestHead) -> None:
        """Decide by what is known of the application's value."""
        plane, scope = self._plane, rule.scope
        values = scope.presented(head)
        if values:
            self._patience = getattr(self, "_patience", WAIT)
            self._recalled_at = monotonic()
            plane.memory.recall(rule, values, self._recalled, self._patience)
        else:
            self._key = b""
            self._attempt(rule, choose_bound(rule, head, None, plane.clock(), plane.random), monotonic())

    def _recalled(self, key: bytes, binding: Binding | None, _result: Result) -> None:
        plane, rule = self._plane, self._rule
        if self._ended or rule is None:
            return
        now = monotonic()
        self._patience -= now - self._recalled_at
        self._key = b"" if binding is None else key
        decision = choose_bound(rule, self._client.head, binding, plane.clock(), plane.random, key=key)
        self._attempt(rule, decision, now)

    def _redirect(self, changes: Changes) -> bool:
        """Send the client elsewhere, where the rule says so."""
        client = self._client
        head, scheme = client.head, client.scheme
        redirect = changes.redirect(scheme, head.path)
        if redirect is None:
            return False
        location = redirect.location(scheme, head.host, head.authority, head.target)
        if location:
            self._refuse(redirect.status, "this is served at another address", location=location)
        else:
            self._refuse(400, "no Host, which this redirect is made of")
        return True

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

    def _send(self, upstream: Upstream, endpoint: Endpoint, now: float) -> None:
        self._upstream = upstream
        client, decision, rule = self._client, self._decision, self._rule
        assert rule is not None  # noqa: S101 - only a routed request gets here
        head = client.head
        authority = head.authority or endpoint.authority.encode()  # HTTP/1.0 may name none
        scope = rule.scope
        written = head.write(
            authority,
            scope.carrier,
            rule.notify_header,
            decision.notice,
            client.forwarding.lines(authority),
            rule.changes,
        )
        if head.body:
            self._await(wait.BODY, now)
            upstream.cork()
            upstream.begin(self, written, head.method == b"HEAD")
            client.proceed()
            upstream.uncork()
        else:
            self.request_sent = True
            first_byte = rule.timeouts.first_byte
            if first_byte:
                self._await_until(wait.ANSWER, now + first_byte)
            upstream.begin(self, written, head.method == b"HEAD")

    # What the client's side tells

    @property
    def answered(self) -> bool:
        """Whether part of the answer has been passed on."""
        return self._answered

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
        if self._record is not None:
            self._record.tell(received=size)
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
        """The client takes no more of the answer, or of what comes before it, for now."""
        if self._upstream is not None:
            self._upstream.pause()
            if self._answered or self.request_sent:
                self._unread = self._client.unread
                self._await(wait.CLIENT)

    def client_drained(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()
            if self._answered:
                self._wait = None
            elif self._wait is wait.CLIENT:
                self._await(wait.ANSWER)

    def abandon(self, status: int = 0, message: str | None = None) -> None:
        """The client has gone, or is being told that what it sends of the request is none."""
        self._status = status
        if self._record is not None and message:
            self._record.tell(message)
        self._finish()

    # Deadlines

    def expire(self, now: float) -> None:
        """The client's `due` has come; what it was set for may have come too."""
        rule, what = self._rule, self._wait
        if rule is None:
            return
        if now >= self.deadline:
            what = wait.WHOLE if self.request_sent or self._upstream is None else wait.WHOLE_BODY
        elif what is None or now < self._until:
            self._client.due = self.deadline if what is None else min(self._until, self.deadline)
            return
        if what is wait.CONNECTION:
            self._unreached(what.status, what.told(rule))
        elif what is wait.CLIENT and self._client.unread < self._unread:
            self._unread = self._client.unread  # it does take something
            self._await(what)
        elif self._answered:
            self._cut()
        elif what is wait.HOLD:
            self._unpark()
        elif what in wait.QUEUED:
            self._give_up_queueing(rule, what)
        else:
            if what.status == 504:
                self._tell_failure()
            self._refuse(what.status, what.told(rule))

    # What the connection upstream tells

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
            self._tell_failure()
            self._refuse(502, f"the endpoint gave no answer: {message}")

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
        assert self._rule is not None  # noqa: S101 - only a routed request has an answer
        drop_all_ours(self._plane, self._rule, answer)
        self._client.interim(answer)

    def answer(self, answer: AnswerHead, parts: list[Slice], last: bool) -> None:
        """The answer's head has come, and what of its body came with it."""
        rule = self._rule
        assert rule is not None  # noqa: S101 - only a routed request has an answer
        self._answered = True
        self._status = answer.status
        if answer.changes is not rule.changes.answer:
            change(self._plane, rule, answer)
        if self._wait is not wait.CLIENT:
            self._wait = None
        endpoint = self._endpoint
        if endpoint is not None and endpoint.judge is not None:
            self._plane.health.answered(endpoint, answer.status)
        record = self._record
        if record is not None:
            record.first_byte = monotonic()
        if parts:
            size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
            self._plane.counters.sent_bytes += size
            if record is not None:
                record.sent = size
        told = (
            self._decision.set_token is not None
            or (answer.sets_cookies and rule.scope.cleans)
            or answer.long_lived
            or rule.scope.learns
        )
        self._client.answer(answer, self._issue(answer) if told else b"", parts, last)

    def _issue(self, answer: AnswerHead) -> bytes:
        rule, endpoint = self._rule, self._endpoint
        assert rule is not None  # noqa: S101 - only a routed request has an answer
        assert endpoint is not None  # noqa: S101
        if rule.scope.stored:
            learn(self._plane, rule, self._decision, endpoint, answer, key=self._key)
            return b""
        if rule.scope.learns:
            return wrap(self._plane, rule, self._decision, endpoint, answer)
        return give(self._plane, rule, self._decision, answer, secure=self._client.secure)

    def payload(self, parts: list[Slice], *, last: bool) -> None:
        """More of the answer's body has come."""
        size = sum(map(len, parts))
        self._plane.counters.sent_bytes += size
        if self._record is not None:
            self._record.sent += size
        self._client.payload(parts, last=last)

    def ended(self, now: float) -> None:
        """The answer is complete; the connection has been taken care of."""
        self._upstream = None
        self._finish(now)
        self._client.end(now)

    def open_tunnel(self, upstream: Upstream, answer: AnswerHead, rest: bytes) -> None:
        """The answer is 101: from here on bytes go both ways as they come."""
        rule, endpoint = self._rule, self._endpoint
        assert rule is not None  # noqa: S101 - only a routed request has an answer
        assert endpoint is not None  # noqa: S101 - it has its room there
        self._answered = True
        self._status = 101
        if endpoint.judge is not None:
            self._plane.health.answered(endpoint, 101)
        change(self._plane, rule, answer)
        self._upstream = None
        self.deadline = inf
        self._wait = None
        home = Home(rule.scope, endpoint, rule.scope.policy.epoch, rule.timeouts.idle)
        binding = followed(rule.scope, self._decision)
        begun = inf if binding is None else binding.created
        self._client.tunnel(upstream, answer, self._issue(answer), rest, home, begun=begun)

    def tunnel_closed(self, reason: BindingReason | None) -> None:
        """`reason`: why it was ended from here."""
        if reason is not None:
            ended = self._plane.counters.tunnels_ended
            ended[reason] = ended.get(reason, 0) + 1
            if self._record is not None:
                self._record.tell(f"ended: {reason}")
        self._finish()

    # Ending

    def _refuse(
        self, status: int, message: str, *, last: bool = False, location: bytes = b"", extra: bytes = b""
    ) -> None:
        self._status = status
        refused = self._plane.counters.refused
        refused[status] = refused.get(status, 0) + 1
        if self._record is not None:
            self._record.tell(message)
        self._finish()
        self._client.refuse(status, message, last=last, location=location, extra=extra)

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

    def _finish(self, now: float | None = None) -> None:
        """Give everything back and count, once."""
        if self._ended:
            return
        self._ended = True
        self._release()
        if self._queue is not None:
            self._leave(self._queue)
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        counters, rule = self._plane.counters, self._rule
        counters.ended += 1
        counter = counters.unrouted if rule is None else rule.counter or counters.begin(rule)
        ended = now or monotonic()
        # RuleCounters.add in place, and short durations compared: the calls would double what metrics cost.
        seconds = ended - self._started
        counter.answers[self._status][
            (0 if seconds <= MS_1 else 1 if seconds <= MS_2_5 else 2)
            if seconds <= MS_5
            else bisect_left(BUCKETS, seconds, 3)
        ] += 1
        counter.seconds += seconds
        record = self._record
        if record is not None:
            log = self._plane.log
            if log is not None:
                record.status = self._status
                record.rule = rule
                log.add(self._client.head, record, ended, self._plane.clock())
            if not record.plain:
                record.clear()
