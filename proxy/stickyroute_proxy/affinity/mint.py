"""What binds a value that the application gives out: to the endpoint that did, which holds its session."""

from random import Random

from stickyroute_api.reasons import BindingReason
from stickyroute_proxy.affinity.bind import followed, place
from stickyroute_proxy.affinity.decision import Decision
from stickyroute_proxy.affinity.endpoint import Endpoint
from stickyroute_proxy.affinity.envelope import Seal
from stickyroute_proxy.affinity.failover import moved
from stickyroute_proxy.affinity.rule import Rule
from stickyroute_proxy.affinity.token import LENGTH, LONG_LIVED, SEPARATOR, SESSION_BYTES, Binding


def minted(rule: Rule, held: Binding | None, endpoint: Endpoint, now: float, random: Random) -> Binding:
    """The binding of a value in an answer of that endpoint to a request with the binding `held`.

    The session goes on, and belongs to the endpoint.
    """
    scope = rule.scope
    if held is None:
        begun = place(rule, random.randbytes(SESSION_BYTES), endpoint, BindingReason.NEW, now).binding
        assert begun is not None  # noqa: S101 - `place` always binds
        return begun
    return held if held.endpoint == scope.name(endpoint) else moved(scope, held, endpoint, now)


def sealer(rule: Rule, decision: Decision, endpoint: Endpoint, now: float, random: Random) -> Seal:
    """What seals the values in an answer of that endpoint: anew, but where the token that was shown does."""

    def seal(value: bytes) -> bytes:
        scope, shown = rule.scope, decision.token
        held = followed(scope, decision)
        binding = minted(rule, held, endpoint, now, random)
        says_the_same = binding is held and binding.key == scope.keyring.sealing
        if says_the_same and shown is not None and shown[LENGTH:] == SEPARATOR + value:
            return shown[:LENGTH]
        return scope.keyring.seal_with(value, binding._replace(sealed=now), scope.identity)

    return seal


def prolonged(binding: Binding, now: float) -> Binding:
    """The binding while a tunnel or an event stream may be open: only its absolute timer counts."""
    return binding._replace(sealed=now, flags=binding.flags | LONG_LIVED)
