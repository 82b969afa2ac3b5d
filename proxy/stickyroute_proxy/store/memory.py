"""What a process knows of learned keys: the ones used last, and the fleet's store for all others.

A key is the keyed digest of the application's value in its scope; what is kept under it is the sealed token
that other scopes hand to their clients. So the store learns no value and no pod, and can forge neither.
"""

from asyncio import AbstractEventLoop, TimerHandle, get_running_loop
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from math import inf
from random import Random
from typing import Final

from stickyroute_api import settings
from stickyroute_proxy.affinity.checks import first_failure
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.scope import UNTIMED, Scope
from stickyroute_proxy.affinity.token import LONG_LIVED, SEPARATOR, Binding
from stickyroute_proxy.store.link import Entry, Link, Lookup
from stickyroute_proxy.wire.counters import Counters

WAIT: Final = 0.045
"""Seconds that a request waits for the store at most; a loop under load is some milliseconds late."""
MAX_KNOWN: Final = 50_000
"""Keys that are known without the store, about 0.5 kB each."""
TRUSTED: Final = 10.0
"""Seconds after which what is known is compared with the store, in no request's way."""
REFILL: Final = 200
"""Entries that are sealed at once for a store that has been emptied."""
REFILL_PAUSE: Final = 0.02


class Result(StrEnum):
    """How a look-up ended."""

    LOCAL = "local"
    HIT = "hit"
    MISS = "miss"
    LATE = "late"
    """The store took longer than a request waits."""
    ERROR = "error"
    """The store is away, or there is none."""


Tell = Callable[[bytes, Binding | None, Result], None]
"""Told the key that was found, or the first that was shown, and its binding."""


class _Known:
    __slots__ = ("binding", "compared", "scope")

    def __init__(self, scope: Scope, binding: Binding, now: float) -> None:
        self.scope = scope
        self.binding = binding
        self.compared = now


class Memory:
    """The learned keys of one process."""

    def __init__(self, clock: Callable[[], float], random: Random, counters: Counters) -> None:
        self._clock = clock
        self._random = random
        self._counters = counters
        self._known: dict[bytes, _Known] = {}
        """The one used last comes last."""
        self._link: Link | None = None
        self._settings = settings.Store()
        self._loop: AbstractEventLoop | None = None
        self._refilling: TimerHandle | None = None

    def take(self, given: settings.Store) -> None:
        """Use this store from now on."""
        if given == self._settings:
            return
        self.close()
        self._settings = given
        if given.address:
            loop = self._loop = get_running_loop()
            self._link = Link(given, self._clock, self._random, self._counters, self._refill)
            self._link.open(loop)

    def close(self) -> None:
        self._settings = settings.Store()
        if self._refilling is not None:
            self._refilling.cancel()
            self._refilling = None
        if self._link is not None:
            self._link.close()
            self._link = None

    # For exchanges

    def recall(self, rule: Rule, values: Sequence[bytes], tell: Tell, wait: float = WAIT) -> None:
        """Find the binding of the first value that has one, and tell it: at once, or within so many seconds.

        One that is known but holds no more is looked up as well: another proxy may know a later one. So is
        one that is not known here, before another that is: the application goes by the first.
        """
        scope, now = rule.scope, self._clock()
        keys = tuple(scope.key(value) for value in values)
        last: bytes | None = None
        is_first = True
        for key in keys:
            known = self._known.get(key)
            if known is None or known.scope is not scope:
                is_first = self._link is None
                continue
            if first_failure(rule, known.binding, now) is not None:
                last = last or key
            elif is_first:
                self.count(Result.LOCAL)
                self._use(key, known, now)
                tell(key, known.binding, Result.LOCAL)
                return
            else:
                last = key
                break
        recall = _Recall(self, scope, keys, last, tell)
        link, loop = self._link, self._loop
        if link is None or loop is None:
            recall.failed()
        else:
            if wait > 0:
                recall.wait(loop, wait)
            link.find(Lookup(keys, recall))
            if wait <= 0:
                recall.late()

    def keep(self, scope: Scope, key: bytes, binding: Binding) -> None:
        """Know this binding from now on, and have the store keep it."""
        self._enter(key, _Known(scope, binding, self._clock()))
        self._write(scope, key, binding, is_new=False)

    def forget(self, key: bytes) -> None:
        """The binding has ended for good."""
        self._known.pop(key, None)
        if self._link is not None:
            self._link.keep(key, Entry(b"", inf, is_new=False))

    def count(self, result: Result) -> None:
        lookups = self._counters.store_lookups
        lookups[result] = lookups.get(result, 0) + 1

    def _use(self, key: bytes, known: _Known, now: float) -> None:
        """Note that it is in use, and compare it when it has not been for long."""
        del self._known[key]
        self._known[key] = known
        if self._link is not None and now - known.compared >= TRUSTED:
            known.compared = now
            self._link.find(Lookup((key,), _Comparison(self, known.scope, key)))

    def _enter(self, key: bytes, known: _Known) -> None:
        self._known.pop(key, None)
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = known

    def _write(self, scope: Scope, key: bytes, binding: Binding, *, is_new: bool) -> None:
        if self._link is None:
            return
        token = scope.keyring.seal_with(key, binding, scope.identity)
        self._link.keep(key, Entry(token, _until(scope, binding), is_new))

    def known(self, key: bytes) -> Binding | None:
        """What is known under a key, good or not."""
        known = self._known.get(key)
        return None if known is None else known.binding

    def take_stored(self, scope: Scope, key: bytes, token: bytes | None) -> Binding | None:
        """Know what the store holds, unless something later is known."""
        binding = self._opened(scope, key, token)
        if binding is None:
            return None
        known = self._known.get(key)
        if known is not None and known.scope is scope:
            binding = _later(known.binding, binding)
        self._enter(key, _Known(scope, binding, self._clock()))
        return binding

    def _opened(self, scope: Scope, key: bytes, token: bytes | None) -> Binding | None:
        """What the store holds under a key; whatever is not ours is as good as nothing."""
        if token is None:
            return None
        opened = scope.keyring.open(token + SEPARATOR + key, scope.identity)
        return opened if isinstance(opened, Binding) else None

    def compare(self, scope: Scope, key: bytes, token: bytes | None) -> None:
        """The later binding is the right one; what the store has lost it gets again."""
        known = self._known.get(key)
        if known is None or known.scope is not scope:
            return
        stored = self._opened(scope, key, token)
        if stored is None:
            self._write(scope, key, known.binding, is_new=True)
        else:
            known.binding = _later(known.binding, stored)

    def _refill(self) -> None:
        """The store has been emptied: write what is known, the last used first, some at a time."""
        if self._refilling is not None:
            self._refilling.cancel()
        self._refill_some(reversed(list(self._known)))

    def _refill_some(self, keys: Iterator[bytes]) -> None:
        assert self._loop is not None  # noqa: S101 - there was a store
        self._refilling = None
        for _ in range(REFILL):
            key = next(keys, None)
            if key is None:
                return
            known = self._known.get(key)
            if known is not None:
                self._write(known.scope, key, known.binding, is_new=True)
        self._refilling = self._loop.call_later(REFILL_PAUSE, self._refill_some, keys)


class _Recall:
    """A request's look-up."""

    __slots__ = ("_keys", "_last", "_memory", "_scope", "_tell", "_timer")

    def __init__(
        self, memory: Memory, scope: Scope, keys: tuple[bytes, ...], last: bytes | None, tell: Tell
    ) -> None:
        """`last`: the key of which something is known, by which to go where the store knows no other."""
        self._memory = memory
        self._scope = scope
        self._keys = keys
        self._last = last
        self._tell: Tell | None = tell
        self._timer: TimerHandle | None = None

    def wait(self, loop: AbstractEventLoop, seconds: float) -> None:
        """Wait so long, and no longer."""
        self._timer = loop.call_later(seconds, self.late)

    def late(self) -> None:
        self._end(Result.LATE)

    def found(self, values: Sequence[bytes | None]) -> None:
        for key, value in zip(self._keys, values, strict=True):
            binding = self._memory.take_stored(self._scope, key, value)
            if binding is not None:
                self._end(Result.HIT, key, binding)
                return
        self._end(Result.MISS)

    def failed(self) -> None:
        self._end(Result.ERROR)

    def _end(self, result: Result, key: bytes | None = None, binding: Binding | None = None) -> None:
        """Tell, once: what comes late is known for the next request."""
        tell, self._tell = self._tell, None
        if self._timer is not None:
            self._timer.cancel()
        if tell is None:
            return
        self._memory.count(result)
        if binding is None and self._last is not None:
            key, binding = self._last, self._memory.known(self._last)
        tell(key or self._keys[0], binding, result)


class _Comparison:
    """A look-up that nobody waits for."""

    __slots__ = ("_key", "_memory", "_scope")

    def __init__(self, memory: Memory, scope: Scope, key: bytes) -> None:
        self._memory = memory
        self._scope = scope
        self._key = key

    def found(self, values: Sequence[bytes | None]) -> None:
        self._memory.compare(self._scope, self._key, values[0])

    def failed(self) -> None:
        pass


def _later(one: Binding, other: Binding) -> Binding:
    """Bound later, or used later there."""
    return max(one, other, key=lambda binding: (binding.bound, binding.sealed))


def _until(scope: Scope, binding: Binding) -> float:
    """When no check would let the binding hold any more (Unix seconds)."""
    idle = inf if binding.flags & LONG_LIVED else binding.sealed + scope.idle
    until = min(idle, binding.created + scope.absolute)
    return binding.sealed + UNTIMED if until == inf else until
