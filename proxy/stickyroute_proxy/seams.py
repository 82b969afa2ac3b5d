"""The seams of an exchange: what it needs of its client's side, and of the process's data plane."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Protocol

from stickyroute_api.settings import Settings
from stickyroute_proxy.accesslog import AccessLog
from stickyroute_proxy.health.watch import Watch
from stickyroute_proxy.store.memory import Memory
from stickyroute_proxy.table import Endpoint, Table
from stickyroute_proxy.wire.admission import Admission
from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.budget import Budget
from stickyroute_proxy.wire.connect import Connect
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.wire.forwarding import Forwarding
from stickyroute_proxy.wire.head import RequestHead
from stickyroute_proxy.wire.parser import Slice
from stickyroute_proxy.wire.pool import Pool
from stickyroute_proxy.wire.tunnel import Home
from stickyroute_proxy.wire.upstream import Upstream

if TYPE_CHECKING:
    from stickyroute_proxy.placement import Placement


class Client(Protocol):
    """The client's side of an exchange."""

    head: RequestHead
    due: float
    """When the exchange's `expire` is to be called, on the monotonic clock; the exchange says so."""
    forwarding: Forwarding
    """Who the client is, and how endpoints are told."""

    @property
    def first(self) -> bool:
        """Whether it is the first request of its connection."""

    @property
    def unread(self) -> int:
        """Bytes of the answer that the client has not taken yet."""

    @property
    def scheme(self) -> bytes:
        """What the client speaks, `http` or `https`; what a trusted proxy says counts."""

    @property
    def secure(self) -> bool:
        """Whether the scheme is `https`."""

    def proceed(self) -> None:
        """The request's head is on its way: its body may follow."""

    def hold(self) -> None:
        """Send no more of the request's body for now."""

    def unhold(self) -> None:
        """Go on with the request's body."""

    def interim(self, answer: AnswerHead) -> None:
        """Pass on a 1xx answer."""

    def answer(self, answer: AnswerHead, extra: bytes, parts: list[Slice], last: bool) -> None:
        """Pass on the answer's head, with further complete lines, and the body's first parts or all of it."""

    def payload(self, parts: list[Slice], *, last: bool) -> None:
        """Pass on further parts of the answer's body; `last`: they end it."""

    def end(self, now: float) -> None:
        """All of the answer has been passed on."""

    def refuse(
        self, status: int, message: str, *, last: bool = False, location: bytes = b"", extra: bytes = b""
    ) -> None:
        """Answer in the upstream's place; nothing of an answer has been passed on yet.

        `last`: it ends the client's connection; `location`: where the client is sent; `extra`: further
        complete lines.
        """

    def truncate(self) -> None:
        """The answer ends in its midst: let the client see it."""

    def tunnel(
        self, upstream: Upstream, answer: AnswerHead, extra: bytes, rest: bytes, home: Home, *, begun: float
    ) -> None:
        """Pass on the 101 and become a tunnel; `rest` has come behind the 101.

        `begun`: when the session began (Unix seconds); inf: there is none.
        """


class Plane(Protocol):
    """What an exchange needs of the process's data plane."""

    loop: AbstractEventLoop
    table: Table | None
    settings: Settings
    random: Random
    clock: Callable[[], float]
    counters: Counters
    admission: Admission
    budget: Budget
    memory: Memory
    health: Watch
    log: AccessLog | None
    """The access log; None: it is off."""

    def pool(self, endpoint: Endpoint) -> Pool:
        """The endpoint's idle connections."""

    def connect(self, endpoint: Endpoint, exchange: "Placement") -> Connect:
        """Open a connection; the exchange is told by `connected` or `connect_failed`."""
