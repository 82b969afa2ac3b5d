"""Where a session goes whose endpoint is lost: by rendezvous, so that every proxy says the same."""

from collections.abc import Collection, Iterable
from hashlib import blake2b
from math import log
from typing import Final

from stickyroute_proxy.affinity.balance import Balancer, tiers
from stickyroute_proxy.affinity.endpoint import Endpoint

_UNIT: Final = 2.0**-52


def repin(
    balancer: Balancer, session: bytes, own: Endpoint | None, tried: Collection[Endpoint]
) -> Endpoint | None:
    """The endpoint that takes over the session; None when nothing can serve.

    `own`, the lost endpoint where it is still known, keeps its sessions when it is no worse than the best
    there is: in the last resort nobody gains by a move.
    """
    for tier in tiers(balancer.backends, tried):
        if own is not None and any(own in endpoints for _, _, endpoints in tier):
            return own
        return rendezvous(
            session,
            ((endpoint, share / len(endpoints)) for _, share, endpoints in tier for endpoint in endpoints),
        )
    return None


def rendezvous(session: bytes, candidates: Iterable[tuple[Endpoint, float]]) -> Endpoint | None:
    """The candidate with the highest score for the session, each by its weight (highest random weight).

    Without one of the candidates only its own sessions choose differently.
    """
    best: Endpoint | None = None
    best_score = (0.0, b"")
    for endpoint, weight in candidates:
        digest = blake2b(session + endpoint.key, digest_size=8).digest()
        # 52 bits and a half: exact in a float, never 0 and never 1.
        uniform = ((int.from_bytes(digest, "big") >> 12) + 0.5) * _UNIT
        score = (weight / -log(uniform), endpoint.key)
        if best is None or score > best_score:
            best, best_score = endpoint, score
    return best
