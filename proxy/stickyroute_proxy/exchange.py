"""One request and its answer: the seam between what clients speak and where requests go.

An `Exchange` asks table and affinity for an endpoint, gets a connection to it, and passes the request up and
the answer down. It knows neither the client's protocol (that side is a `Client`; HTTP/2 streams can be
others) nor how bytes are parsed. Routing and affinity know nothing of it.
"""

from collections.abc import Callable
from math import inf
from random import Random
from time import monotonic
from typing import Final, Protocol

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.choose import Decision, choose, prolong, rechoose
from stickyroute_proxy.affinity.cookie import may_set, set_cookie
from stickyroute_proxy.table import Endpoint, Rule, Table
from stickyroute_proxy.wire.answer import AnswerHead, chunk
from stickyroute_proxy.wire.connect import Connect
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.wire.head import IDEMPOTENT, RequestHead
from stickyroute_proxy.wire.parser import CHUNKED, Slice
from stickyroute_proxy.wire.pool import Pool
from stickyroute_proxy.wire.upstream import Upstream

MAX_TRIED: Final = 3
"""How many endpoints may fail to take a connection before the client is told."""


NO_HANDSHAKE: Final = "TLS handshake with the endpoint failed"


class Client(Protocol):
    """The client's side of an exchange."""

    head: RequestHead

    @property
    def address(self) -> str:
        """The client's, in its canonical form; what a trusted proxy says counts."""

    @property
    def scheme(self) -> bytes:
        """What the client speaks, `http` or `https`; what a trusted proxy says counts."""

    @property
    def secure(self) -> bool:
        """Whether the scheme is `https`."""

    def forwarding(self, authority: bytes) -> bytes:
        """The forwarding fields as complete lines."""

    def proceed(self) -> None:
        """The request's head is on its way: its body may follow."""

    def hold(self) -> None:
        """Send no more of the request's body for now."""

    def unhold(self) -> None:
        """Go on with the request's body."""

    def interim(self, answer: AnswerHead) -> None:
        """Pass on a 1xx answer."""

    def answer(self, answer: AnswerHead, extra: bytes, parts: list[Slice], *, last: bool) -> None:
        """Pass on the answer's head, with further complete lines, and the body's first parts or all of it."""

    def payload(self, parts: list[Slice], *, last: bool) -> None:
        """Pass on further parts of the answer's body; `last`: they end it."""

    def end(self, now: float) -> None:
        """All of the answer has been passed on."""

    def refuse(self, status: int, message: str) -> None:
        """Answer in the upstream's place; nothing of an answer has been passed on yet."""

    def truncate(self) -> None:
        """The answer ends in its midst: let the client see it."""

    def tunnel(self, upstream: Upstream, answer: AnswerHead, extra: bytes, rest: bytes, idle: float) -> None:
        """Pass on the 101 and become a tunnel; `rest` has come behind the 101."""


class Plane(Protocol):
    """What an exchange needs of the process's data plane."""

    table: Table | None
    random: Random
    clock: Callable[[], float]
    counters: Counters

    def pool(self, endpoint: Endpoint) -> Pool:
        """The endpoint's idle connections."""

    def connect(self, endpoint: Endpoint, exchange: "Exchange") -> Connect:
        """Open a connection; the exchange is told by `connected` or `connect_failed`."""


class Exchange:
    """Exactly one answer for one request, whatever happens."""

    __slots__ = (
        "_answered",
        "_attempts",
        "_client",
        "_connect_deadline",
        "_connecting",
        "_decision",
        "_ended",
        "_endpoint",
        "_plane",
        "_repeatable",
        "_repeated",
        "_rule",
        "_started",
        "_status",
        "_tried",
        "_untrusted",
        "_upstream",
        "deadline",
        "request_sent",
    )

    deadline: float
    """When `expire` is to be called, on the monotonic clock."""
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
        self._connect_deadline = self.deadline = inf
        self._tried: list[Endpoint] | None = None
        self._attempts = 0
        self._status = 0
        self._answered = self._ended = self._repeated = False
        self._untrusted = False  # the last attempt failed in the TLS handshake
        self.request_sent = False
        plane.counters.exchanges += 1

    # Deciding and sending

    def start(self) -> None:
        """Decide on the client's head, and send it."""
        plane, head = self._plane, self._client.head
        table = plane.table
        if table is None:
            self._refuse(503, "this proxy has no configuration yet")
            return
        rule = table.find(head.host, head.path, head.query, head.method, head.headers)
        if rule is None:
            self._refuse(404, "no route serves this host and path")
            return
        self._rule = rule
        if rule.timeouts.request:
            self.deadline = self._started + rule.timeouts.request
        self._repeatable = not head.body and head.method in IDEMPOTENT
        self._attempt(choose(rule, head.cookies, plane.clock(), plane.random))

    def _attempt(self, decision: Decision) -> None:
        """Send the request where the decision says."""
        self._decision = decision
        self._attempts = 0
        endpoint = decision.endpoint
        if endpoint is None:
            if self._untrusted:
                # Endpoints are there, but have to be mended: to ask again soon will not help.
                self._refuse(502, NO_HANDSHAKE)
            else:
                self._refuse(503, "no endpoint can serve this request now")
            return
        self._endpoint = endpoint
        endpoint.in_flight += 1
        pool: Pool | None = endpoint.pool
        upstream = pool.take(self._started, repeatable=self._repeatable) if pool is not None else None
        if upstream is None:
            self._connect(endpoint)
        else:
            self._send(upstream, endpoint)

    def _connect(self, endpoint: Endpoint) -> None:
        rule = self._rule
        assert rule is not None  # noqa: S101 - only a routed request gets here
        if rule.timeouts.connect:
            self._connect_deadline = monotonic() + rule.timeouts.connect
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
            upstream.cork()
            upstream.begin(self, written, to_head=False)
            client.proceed()
            upstream.uncork()
        else:
            self.request_sent = True
            upstream.begin(self, written, to_head=head.method == b"HEAD")

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
        self._plane.counters.received_bytes += sum(map(len, parts))
        if self._client.head.body == CHUNKED:
            parts = chunk(parts, last=last)
        if last:
            self.request_sent = True
        if parts:
            upstream.send(parts)

    def client_full(self) -> None:
        """The client takes no more of the answer for now."""
        if self._upstream is not None:
            self._upstream.pause()

    def client_drained(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def abandon(self) -> None:
        """The client has gone."""
        self._status = 0
        self._finish()

    def expire(self, now: float) -> None:
        """A deadline may have passed."""
        if now >= self.deadline:
            if self._answered:
                self._finish()
                self._client.truncate()
            elif self.request_sent or self._upstream is None:
                self._refuse(504, "the endpoint did not answer within the request timeout")
            else:
                self._refuse(408, "the request did not come to its end within the request timeout")
        elif self._connecting is not None and now >= self._connect_deadline:
            self._connecting.cancel()
            self.connect_failed()

    # What the connection upstream tells

    def connected(self, upstream: Upstream) -> None:
        """The connection that was asked for is there."""
        self._plane.counters.connects += 1
        self._connecting = None
        self._connect_deadline = inf
        if self._ended or self._endpoint is None:
            upstream.close()
        elif self._left(self._endpoint):
            upstream.close()
            self._begin_anew()
        elif upstream.closing:
            self.connect_failed()  # accepted and closed at once
        else:
            self._send(upstream, self._endpoint)

    def connect_failed(self) -> None:
        """No connection could be opened: once more there for a bound session, then elsewhere."""
        plane, rule, endpoint = self._plane, self._rule, self._endpoint
        plane.counters.connect_failures += 1
        connecting, self._connecting = self._connecting, None
        self._untrusted = connecting is not None and connecting.handshake
        self._connect_deadline = inf
        if self._ended or rule is None or endpoint is None:
            return
        if self._left(endpoint):
            self._begin_anew()
            return
        if not rule.retries.attempts:
            self._refuse(502, NO_HANDSHAKE if self._untrusted else "the endpoint took no connection")
            return
        if self._decision.reason is BindingReason.BOUND and self._attempts < rule.retries.attempts:
            self._attempts += 1
            plane.counters.retries += 1
            self._connect(endpoint)
            return
        tried = self._tried = [*(self._tried or ()), endpoint]
        if len(tried) >= MAX_TRIED:
            self._refuse(502, NO_HANDSHAKE if self._untrusted else "no endpoint took a connection")
            return
        self._release()
        plane.counters.retries += 1
        self._attempt(rechoose(rule, self._decision, tried, plane.clock(), plane.random))

    def upstream_failed(self, upstream: Upstream, message: str) -> None:
        """The connection broke, or what came was no answer."""
        if upstream is not self._upstream:
            return
        self._upstream = None
        if self._answered:
            self._finish()
            self._client.truncate()
        elif self._endpoint and self._repeatable and upstream.unanswered_reuse and not self._repeated:
            # It closed while our request was on its way: an idle connection's ordinary end.
            self._repeated = True
            self._plane.counters.retries += 1
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
        self._client.hold()

    def upstream_drained(self) -> None:
        self._client.unhold()

    def interim(self, answer: AnswerHead) -> None:
        self._client.interim(answer)

    def answer(self, answer: AnswerHead, parts: list[Slice], *, last: bool) -> None:
        """The answer's head has come, and what of its body came with it."""
        self._answered = True
        self._status = answer.status
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
        self._client.tunnel(upstream, answer, self._set_cookie(answer), rest, rule.timeouts.idle)

    def tunnel_closed(self) -> None:
        self._finish()

    # Ending

    def _refuse(self, status: int, message: str) -> None:
        self._status = status
        refused = self._plane.counters.refused
        refused[status] = refused.get(status, 0) + 1
        self._finish()
        self._client.refuse(status, message)

    def _release(self) -> None:
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.in_flight -= 1

    def _finish(self, now: float | None = None) -> None:
        """Give everything back and count, once."""
        if self._ended:
            return
        self._ended = True
        self._release()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        counters, rule = self._plane.counters, self._rule
        counters.exchanges -= 1
        counter = counters.unrouted if rule is None else counters.of(rule.route, rule.name)
        counter.add(self._status, (now or monotonic()) - self._started)
