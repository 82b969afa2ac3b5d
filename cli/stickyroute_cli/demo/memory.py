"""What one pod remembers, in its own memory and nowhere else: lost with the pod, as in real applications."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_SESSIONS = 100_000
MAX_SEEN = 200_000


@dataclass(slots=True)
class Session:
    """One visitor: a random id, which the application's own cookie carries, and a counter."""

    id: str
    count: int = 0


class Memory:
    """Sessions and seen request ids, each capped: the longest unused goes first."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._seen: OrderedDict[str, int] = OrderedDict()

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    def session(self, known_as: str | None) -> tuple[Session, bool]:
        """The session of that id, or a new one under an id of our own; and whether it is new.

        An id that this pod never gave out is not taken over: whoever could choose ids could fix a victim's.
        """
        if known_as is not None and (session := self._sessions.get(known_as)) is not None:
            self._sessions.move_to_end(known_as)
            return session, False
        session = Session(self._new_id())
        self._sessions[session.id] = session
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session, True

    def see(self, request_id: str) -> int:
        """Note one more request of that id; how many there have been."""
        count = self._seen.pop(request_id, 0) + 1
        self._seen[request_id] = count
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return count

    def seen(self, prefix: str) -> dict[str, int]:
        """How often each request id with that prefix has been seen."""
        return {
            request_id: count for request_id, count in self._seen.items() if request_id.startswith(prefix)
        }
