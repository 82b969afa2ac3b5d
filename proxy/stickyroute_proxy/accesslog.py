"""The access log: one line of JSON for each exchange; docs/access-log.md says what its fields mean.

A line is made where the exchange ends, and written elsewhere (`writer`): a thread that made lines would hold
the interpreter for milliseconds at a time, and requests would wait for it. What a client sent is quoted: it
can end neither a string nor a line. Of a request's fields none is told but those named here, and of its
target no query: they can hold secrets.
"""

import logging
from json.encoder import encode_basestring_ascii as quote
from random import Random
from re import compile as regex
from select import PIPE_BUF
from time import gmtime, strftime
from typing import Final

from stickyroute_api import settings
from stickyroute_proxy.affinity.decision import Decision
from stickyroute_proxy.affinity.rule import Rule
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

_THOUSANDTHS: Final = tuple(f".{number:03}" for number in range(1000))
_TABLED: Final = 1024
_MILLISECONDS: Final = tuple(f"{number / 1000:.3f}" for number in range(_TABLED))
"""By microseconds. A `.3f` for each number would take more time than all else of a line."""

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

    def __init__(self) -> None:
        self.first_byte = self.rule = self.decision = None
        self.status = self.sent = 0
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
        self._second = -1
        self._date = ""

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
        millisecond = int(now * 1000)
        second = millisecond // 1000
        if second != self._second:
            self._second = second
            self._date = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        date, thousandths = self._date, _THOUSANDTHS[millisecond % 1000]
        text = line(head, record, ended, date, thousandths)
        if len(text) > PIPE_BUF:
            text = line(head, record, ended, date, thousandths, short=True)
        self._writer.put(text)


def line(
    head: RequestHead | None,
    record: Record,
    ended: float,
    date: str,
    thousandths: str,
    *,
    short: bool = False,
) -> str:
    """The line, in ASCII, with that time of day. `short`: little of what clients can make long."""
    started, first_byte = record.started, record.first_byte
    path = "null"
    if head is None:
        request_id, told = _unread(record)
        outcome = _outcome(record)
    else:
        request_id = head.request_id
        if short:
            told = _told(head, _SHORT)
        else:
            told = head.told = head.told or _told(head, MAX_AGENT)
        path = quote(head.path[: _SHORT if short else MAX_PATH].decode("utf-8", "backslashreplace"))
        rule, decision = record.rule, record.decision
        if rule is None or decision is None or not record.plain:
            outcome = _outcome(record)
        else:
            of = record.status, rule, rule.scope, decision.reason, decision.endpoint
            if of != head.outcome_of:
                head.outcome, head.outcome_of = _outcome(record), of
            outcome = head.outcome
    total = int((ended - started) * 1e6)
    first = "null"
    if first_byte is not None:
        took = int((first_byte - started) * 1e6)
        first = _MILLISECONDS[took] if took < _TABLED else _milliseconds(took)
    # Ours need no quotation.
    identity = f'"{request_id.decode()}"' if request_id.isalnum() else _quoted(request_id)
    return (
        f'{{"time":"{date}{thousandths}Z","requestId":{identity},'
        f'{told},"path":{path},{outcome},"sent":{record.sent},'
        f'"total":{_MILLISECONDS[total] if total < _TABLED else _milliseconds(total)},'
        f'"firstByte":{first}}}\n'
    )


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds // 1000}{_THOUSANDTHS[microseconds % 1000]}"


def _unread(record: Record) -> tuple[bytes, str]:
    """The request's id, and what is told of it."""
    assert isinstance(record, Unread)  # noqa: S101 - it has no head
    return record.request_id, f"{_client(record.address, secure=record.secure)},{_NO_REQUEST}"


def _client(address: str, *, secure: bool) -> str:
    return f'"client":{quote(address)},"scheme":"{"https" if secure else "http"}"'


def _told(head: RequestHead, max_agent: int) -> str:
    agent = trace = None
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"user-agent":
            agent = agent or value
        elif lower == b"traceparent":
            trace = trace or _TRACEPARENT.fullmatch(value)
    return (
        f"{_client(head.address, secure=head.secure)},"
        f'"host":{_quoted(head.host)},"method":{_quoted(head.method)},'
        f'"protocol":"{"HTTP/1.1" if head.http11 else "HTTP/1.0"}",'
        f'"userAgent":{"null" if agent is None else _quoted(agent[:max_agent])},'
        f'"traceId":{"null" if trace is None else _quoted(trace[1])}'
    )


def _outcome(record: Record) -> str:
    message, connect, rule = record.message, record.connect, record.rule
    return (
        f'"status":{record.status},"message":{"null" if message is None else quote(message)},'
        f"{_NO_RULE if rule is None else _rule(rule)},{_decision(record.decision)},"
        f'"retries":{record.retries},"connect":{"null" if connect is None else f"{connect * 1000:.3f}"},'
        f'"received":{record.received}'
    )


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
