"""The access log: one line of JSON for each exchange; docs/access-log.md says what its fields mean.

A line is made where the exchange ends, so that nothing of it is kept, and written elsewhere (`writer`). What
a client sent is quoted: it can end neither a string nor a line. Of a request's fields none is told but those
named here, and of its target no query: they can hold secrets.
"""

import logging
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from random import Random
from re import compile as regex
from select import PIPE_BUF
from time import gmtime, strftime
from typing import Final

from stickyroute_api import settings
from stickyroute_proxy.affinity.choose import Decision
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

_LINE: Final = (
    '{"time":"%s","requestId":%s,"client":%s,"scheme":"%s",%s,"status":%d,"message":%s,"received":%d,'
    '"sent":%d,%s,%s,"retries":%d,"total":%.3f,"connect":%s,"firstByte":%s}\n'
)
_REQUEST: Final = '"host":%s,"method":%s,"path":%s,"protocol":"%s","userAgent":%s,"traceId":%s'
_NO_REQUEST: Final = _REQUEST.replace('"%s"', "%s") % (("null",) * 6)
_RULE: Final = '"route":%s,"rule":%s,"scope":%s'
_NO_RULE: Final = _RULE % (("null",) * 3)
_DECISION: Final = '"reason":"%s",%s'
_ENDPOINT: Final = '"endpoint":%s,"address":%s'
_NO_ENDPOINT: Final = _ENDPOINT % (("null",) * 2)
_NO_DECISION: Final = '"reason":null,' + _NO_ENDPOINT

_TRACEPARENT: Final = regex(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""W3C Trace Context, level 2: what later versions append is not ours to judge."""


class Record:
    """What is known of an exchange for its line."""

    __slots__ = (
        "address",
        "connect",
        "connecting",
        "decision",
        "first_byte",
        "head",
        "message",
        "received",
        "request_id",
        "retries",
        "rule",
        "secure",
        "sent",
        "started",
        "status",
    )

    head: RequestHead | None
    """None: the request could not be read."""
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

    def __init__(
        self, head: RequestHead | None, address: str, request_id: bytes, started: float, *, secure: bool
    ) -> None:
        self.head = head
        self.address = address
        self.request_id = request_id
        self.started = started
        self.secure = secure
        self.connecting = 0.0
        self.connect = self.first_byte = None
        self.received = self.sent = self.retries = self.status = 0
        self.message = None
        self.rule: Rule | None = None
        self.decision: Decision | None = None


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

    def add(self, record: Record, ended: float, now: float) -> None:
        """Log an exchange that has ended: on the monotonic clock, and in Unix seconds."""
        if record.status < 500 and self._share < 1.0 and self._random.random() >= self._share:
            return
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        time = f"{self._date}.{int((now - second) * 1000):03}Z"
        text = line(record, ended, time, MAX_PATH, MAX_AGENT)
        if len(text) > PIPE_BUF:
            text = line(record, ended, time, _SHORT, _SHORT)
        self._writer.put(text.encode("ascii"))


def line(record: Record, ended: float, time: str, max_path: int, max_agent: int) -> str:
    """The line, in ASCII; `time` goes into it as it is."""
    head, rule, decision = record.head, record.rule, record.decision
    connect, first_byte, message = record.connect, record.first_byte, record.message
    return _LINE % (
        time,
        quote(record.request_id.decode("ascii", "backslashreplace")),
        quote(record.address),
        "https" if record.secure else "http",
        _NO_REQUEST if head is None else _request(head, max_path, max_agent),
        record.status,
        "null" if message is None else quote(message),
        record.received,
        record.sent,
        _NO_RULE if rule is None else _rule(rule.route, rule.name, rule.scope.id),
        _NO_DECISION if decision is None else _decision(decision),
        record.retries,
        (ended - record.started) * 1000,
        "null" if connect is None else "%.3f" % (connect * 1000),
        "null" if first_byte is None else "%.3f" % ((first_byte - record.started) * 1000),
    )


def _request(head: RequestHead, max_path: int, max_agent: int) -> str:
    agent = trace = None
    for name, value in head.headers:
        # Their lengths are looked at first: it is most of what this loop costs.
        if len(name) == 10:
            if agent is None and name.lower() == b"user-agent":
                agent = value
        elif len(name) == 11 and trace is None and name.lower() == b"traceparent":
            trace = _TRACEPARENT.fullmatch(value)
    return _REQUEST % (
        _quoted(head.host),
        _quoted(head.method),
        quote(head.path[:max_path].decode("utf-8", "backslashreplace")),
        "HTTP/1.1" if head.http11 else "HTTP/1.0",
        "null" if agent is None else _quoted(agent[:max_agent]),
        "null" if trace is None else f'"{trace[1].decode()}"',
    )


@lru_cache(maxsize=1024)
def _quoted(value: bytes) -> str:
    """For what comes again and again."""
    return quote(value.decode("utf-8", "backslashreplace"))


@lru_cache(maxsize=1024)
def _rule(route: str, rule: str, scope: str) -> str:
    return _RULE % (quote(route), quote(rule), quote(scope))


def _decision(decision: Decision) -> str:
    endpoint = decision.endpoint
    if endpoint is None:
        return _DECISION % (decision.reason, _NO_ENDPOINT)
    return _DECISION % (decision.reason, _endpoint(endpoint.pod, endpoint.address, endpoint.port))


@lru_cache(maxsize=4096)
def _endpoint(pod: str, address: str, port: int) -> str:
    return _ENDPOINT % (quote(pod), quote(f"[{address}]:{port}" if ":" in address else f"{address}:{port}"))
