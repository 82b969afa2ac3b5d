"""The access log: one line of JSON for each exchange; docs/access-log.md says what its fields mean.

A line is made where the exchange ends, and written elsewhere (`writer`): a thread that made lines would hold
the interpreter for milliseconds at a time, and requests would wait for it. What a client sent is quoted: it
can end neither a string nor a line. Of a request's fields none is told but those named here, and of its
target no query: they can hold secrets.
"""

import logging
from json.encoder import encode_basestring_ascii as quote
from math import floor
from random import Random
from re import compile as regex
from select import PIPE_BUF
from time import gmtime, strftime
from typing import Final

from stickyroute_api import settings
from stickyroute_proxy.affinity.decision import Decision
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.scope import Scope
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.writer import Writer

logger = logging.getLogger(__name__)

MAX_PATH: Final = 1024
"""How many bytes of a path are told."""
MAX_AGENT: Final = 256
"""How many of a user agent."""
_SHORT: Final = 64
"""How many of both, where the line would not fit into one write to a pipe."""

_NO_REQUEST: Final = '"host":null,"method":null,"protocol":null,"userAgent":null,"traceId":null'
_NO_RULE: Final = '"route":null,"rule":null,"scope":null'
_NO_DECISION: Final = '"reason":null,"endpoint":null,"address":null'

_TABLED: Final = 1000
"""Numbers below are looked up: to format them would take more time than all else of a line."""
_NUMBERS: Final = tuple(b"%d" % number for number in range(_TABLED))
_UNTIL_ID: Final = tuple(b'.%03dZ","requestId":"' % number for number in range(1000))
_UNTIL_FIRST_BYTE: Final = tuple(b'.%03d,"firstByte":' % number for number in range(1000))
_UNTIL_END: Final = tuple(b".%03d}\n" % number for number in range(1000))
"""Thousandths, and what of a line follows them."""

_TRACEPARENT: Final = regex(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""W3C Trace Context, level 2: what later versions append is not ours to judge."""


class Record:
    """What is known of an exchange for its line; each connection has one, for one exchange after another."""

    __slots__ = (
        "connect",
        "connecting",
        "decision",
        "first_byte",
        "message",
        "outcome",
        "outcome_decision",
        "outcome_of",
        "outcome_rule",
        "outcome_scope",
        "outcome_status",
        "path",
        "path_of",
        "plain",
        "received",
        "retries",
        "rule",
        "sent",
        "started",
        "status",
    )

    started: float
    """On the monotonic clock, as the times below."""
    connecting: float
    """When the last connection was asked for."""
    connect: float | None
    """Seconds that opening it took; None: there was one already."""
    first_byte: float | None
    """When the answer's head came."""
    received: int
    """Bytes of the request's body."""
    sent: int
    """Bytes of the answer's body."""
    status: int
    """0: the client had gone."""
    message: str | None
    """What the client was told in the endpoint's place."""
    rule: Rule | None
    decision: Decision | None
    """The last; None: it ended undecided."""
    plain: bool
    """It has no message, body, retry or new connection, as nearly all: `tell` says otherwise."""
    path: bytes
    """What the last line told of `path_of`."""
    path_of: bytes
    outcome: bytes
    """What the last plain line told of how the exchange ended. It was made of the attributes `outcome_…`;
    they are compared one by one: to make a tuple for each line costs more."""
    outcome_of: tuple[object, ...]
    """The same where each decision is another: what of it is told."""

    def __init__(self) -> None:
        self.first_byte = self.rule = self.decision = None
        self.status = self.sent = 0
        self.path = b'""'
        self.path_of = self.outcome = b""
        self.outcome_of = ()
        self.outcome_status = -1
        self.outcome_rule: Rule | None = None
        self.outcome_scope: Scope | None = None
        self.outcome_decision: Decision | None = None
        self.clear()

    def clear(self) -> None:
        """Forget what few exchanges have; each sets the rest anew."""
        self.connect = self.message = None
        self.received = self.retries = 0
        self.plain = True

    def tell(self, message: str | None = None, *, received: int = 0, retries: int = 0) -> None:
        """Add what few exchanges have."""
        self.message = message or self.message
        self.received += received
        self.retries += retries
        self.plain = False

    def connected(self, now: float) -> None:
        """The connection that was asked for at `connecting` is there."""
        self.connect = now - self.connecting
        self.plain = False


class Unread(Record):
    """What is known where the request could not be read."""

    __slots__ = ("address", "request_id", "secure")

    def __init__(self, address: str, request_id: bytes, *, secure: bool) -> None:
        super().__init__()
        self.address = address
        self.request_id = request_id
        self.secure = secure


class AccessLog:
    """Makes lines and has them written; while it is off there is none."""

    def __init__(self, handle: int, counters: Counters, random: Random) -> None:
        """`handle`: the file descriptor that lines are written to."""
        self._writer = Writer(handle, counters)
        self._random = random
        self._share = 1.0
        self._second = -1.0
        self._date = b""

    def take(self, given: settings.AccessLog) -> None:
        """Log the share of exchanges that the settings ask for."""
        self._share = given.sample if given.mode == "Sampled" else 1.0

    def end(self) -> None:
        """Write what waits, then nothing more."""
        self._writer.end()

    def close(self, seconds: float) -> None:
        """End, and wait for it at most so long."""
        self._writer.end()
        if not self._writer.join(seconds):
            logger.warning("the access log's reader has stalled: its last lines are lost")

    def add(self, head: RequestHead | None, record: Record, ended: float, now: float) -> None:
        """Log an exchange: ended on the monotonic clock, now in Unix seconds.

        `head`: None where the request could not be read; the record is an `Unread` then.
        """
        if self._share < 1.0 and record.status < 500 and self._random.random() >= self._share:
            return
        passed = now - self._second
        if not 0.0 <= passed < 1.0:
            passed = self._turn(now)
        milliseconds = floor(passed * 1000.0)
        text = line(head, record, ended, self._date, milliseconds)
        if len(text) > PIPE_BUF:
            text = line(head, record, ended, self._date, milliseconds, short=True)
        self._writer.put(text)

    def _turn(self, now: float) -> float:
        """Another second has begun; returns what of it has passed."""
        second = floor(now)
        self._second = float(second)
        self._date = date(second)
        return now - second


def date(second: int) -> bytes:
    """How lines begin in that second of Unix time."""
    return strftime('{"time":"%Y-%m-%dT%H:%M:%S', gmtime(second)).encode()


def line(
    head: RequestHead | None,
    record: Record,
    ended: float,
    begin: bytes,
    milliseconds: int,
    *,
    short: bool = False,
) -> bytes:
    """The line, in ASCII, with that `date` and milliseconds. `short`: little of what clients can make long.

    Its fields, in order: time, requestId; those of `_client` and `_told`; path; those of `_outcome`; sent,
    total, firstByte. Each piece ends with what stands before the next piece's value.
    """
    started, first_byte = record.started, record.first_byte
    if head is None:
        request_id, told = _unread(record)
        path, outcome = b"null", _outcome(record)
    else:
        request_id = head.request_id
        if short:
            told, path = _told(head, _SHORT), _path(head, _SHORT)
        else:
            told = head.told = head.told or _told(head, MAX_AGENT)
            if record.path_of is not head.path:
                record.path, record.path_of = _path(head, MAX_PATH), head.path
            path = record.path
        rule = record.rule
        if (
            rule is not None
            and record.outcome_rule is rule
            and record.outcome_scope is rule.scope
            and record.outcome_decision is record.decision
            and record.outcome_status == record.status
            and record.plain
        ):
            outcome = record.outcome
        else:
            outcome = _kept(record)
    if not request_id.isalnum():  # ours is
        request_id = _quoted(request_id)[1:-1].encode()
    total = floor((ended - started) * 1e6)
    whole = total // 1000
    if first_byte is None:
        first_whole, last = b"null", b"}\n"
    else:
        took = floor((first_byte - started) * 1e6)
        until = took // 1000
        first_whole = _NUMBERS[until] if until < _TABLED else b"%d" % until
        last = _UNTIL_END[took % 1000]
    return b"".join(
        (
            begin,
            _UNTIL_ID[milliseconds],
            request_id,
            told,
            path,
            outcome,
            b'%d,"total":' % record.sent,
            _NUMBERS[whole] if whole < _TABLED else b"%d" % whole,
            _UNTIL_FIRST_BYTE[total % 1000],
            first_whole,
            last,
        )
    )


def _unread(record: Record) -> tuple[bytes, bytes]:
    """The request's id, and what is told of it."""
    assert isinstance(record, Unread)  # noqa: S101 - it has no head
    client = _client(record.address, secure=record.secure)
    return record.request_id, f'",{client},{_NO_REQUEST},"path":'.encode()


def _kept(record: Record) -> bytes:
    """How the exchange ended; if the line is plain it is kept for the next."""
    rule, decision = record.rule, record.decision
    if rule is None or decision is None or not record.plain:
        return _outcome(record)
    of = record.status, rule, rule.scope, decision.reason, decision.endpoint
    if of != record.outcome_of:
        record.outcome, record.outcome_of = _outcome(record), of
    record.outcome_status, record.outcome_rule, record.outcome_scope = record.status, rule, rule.scope
    record.outcome_decision = decision
    return record.outcome


def _path(head: RequestHead, length: int) -> bytes:
    return _quoted(head.path[:length]).encode()


def _client(address: str, *, secure: bool) -> str:
    return f'"client":{quote(address)},"scheme":"{"https" if secure else "http"}"'


def _told(head: RequestHead, max_agent: int) -> bytes:
    agent = trace = None
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"user-agent":
            agent = agent or value
        elif lower == b"traceparent":
            trace = trace or _TRACEPARENT.fullmatch(value)
    return (
        f'",{_client(head.address, secure=head.secure)},'
        f'"host":{_quoted(head.host)},"method":{_quoted(head.method)},'
        f'"protocol":"{"HTTP/1.1" if head.http11 else "HTTP/1.0"}",'
        f'"userAgent":{"null" if agent is None else _quoted(agent[:max_agent])},'
        f'"traceId":{"null" if trace is None else _quoted(trace[1])},"path":'
    ).encode()


def _outcome(record: Record) -> bytes:
    message, connect, rule = record.message, record.connect, record.rule
    return (
        f',"status":{record.status},"message":{"null" if message is None else quote(message)},'
        f"{_NO_RULE if rule is None else _rule(rule)},{_decision(record.decision)},"
        f'"retries":{record.retries},"connect":{"null" if connect is None else f"{connect * 1000:.3f}"},'
        f'"received":{record.received},"sent":'
    ).encode()


def _decision(decision: Decision | None) -> str:
    if decision is None:
        return _NO_DECISION
    endpoint = decision.endpoint
    if endpoint is None:
        return f'"reason":"{decision.reason}","endpoint":null,"address":null'
    pod, address = quote(endpoint.pod), quote(endpoint.authority)
    return f'"reason":"{decision.reason}","endpoint":{pod},"address":{address}'


def _rule(rule: Rule) -> str:
    return f'"route":{quote(rule.route)},"rule":{quote(rule.name)},"scope":{quote(rule.scope.id)}'


def _quoted(value: bytes) -> str:
    return quote(value.decode("utf-8", "backslashreplace"))
