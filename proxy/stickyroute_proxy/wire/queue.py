"""Those who wait for room on one endpoint: first come, first served, every step O(1)."""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    @property
    def room(self) -> int:
        """There is room for it while fewer requests than that are in flight."""


W = TypeVar("W", bound=Waiting)


class Queue(Generic[W]):
    """The queue of one endpoint."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # In order of arrival. Unlike a plain dict it finds its first at once, however many have gone.
        self._waiting: OrderedDict[W, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, who: W) -> None:
        self._waiting[who] = None

    def leave(self, who: W) -> None:
        """Wait no more."""
        del self._waiting[who]

    def pop(self, in_flight: int) -> W | None:
        """The next, if there is room for it while so many requests are in flight; it waits no more."""
        for who in self._waiting:
            if in_flight < who.room:
                del self._waiting[who]
                return who
            break
        return None

    def split(self, count: float) -> "Queue[W]":
        """The first of them, so many, as a queue of their own; here they wait no more."""
        first: Queue[W] = Queue()
        while self._waiting and len(first) < count:
            first.join(self._waiting.popitem(last=False)[0])
        return first

    def clear(self) -> list[W]:
        """All who waited, in their order; nobody waits then."""
        waited = list(self._waiting)
        self._waiting.clear()
        return waited
