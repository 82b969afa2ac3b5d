"""What the soak's proxy is told: one route, pods that come and go, and a certificate for TLS."""

import secrets
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trustme

from stickyroute_api import settings, snapshot
from stickyroute_api.reasons import EndpointState

FLEET: Final = "soak"
HOST: Final = "shop.example.com"
COOKIE: Final = "shop"
LEAST: Final = 3
"""So many pods serve at any time."""

HEAD: Final = 2.0
"""Seconds for a request's head."""
BODY_IDLE: Final = 2.0
"""Seconds between two parts of a body."""
REQUEST: Final = 8.0
"""Seconds for a whole exchange."""
SESSION: Final = 5.0
"""Seconds that a session lasts unused: short, so that as many end as begin."""
DRAIN: Final = 4.0
"""Seconds that a pod which leaves still serves its sessions."""


@dataclass(slots=True)
class Fleet:
    """The pods, of which some serve; each time one joins it is a new pod at an old address."""

    ports: Sequence[int]
    random: Random
    revision: int = 0
    joined: int = 0
    left: int = 0
    _serving: dict[int, snapshot.Endpoint] = field(default_factory=dict)
    _draining: list[snapshot.Endpoint] = field(default_factory=list)
    _base: snapshot.Snapshot | None = None

    def next(self, now: float) -> snapshot.Snapshot:
        """The next revision: some pods join, some begin to drain, and those that have drained are gone."""
        draining = {one.port for one in self._draining if one.draining_since + DRAIN > now}
        self._draining = [one for one in self._draining if one.draining_since + DRAIN > now]
        for port in self.ports:
            if port in self._serving:
                if len(self._serving) > LEAST and self.random.random() < 0.3:
                    self._leave(port, now)
            elif port not in draining and (len(self._serving) < LEAST or self.random.random() < 0.6):
                self._join(port)
        self.revision += 1
        pods = (*self._serving.values(), *self._draining)
        base = self._base or _base()
        self._base = base.model_copy(update={"revision": self.revision, "endpoints": {"shop/web:80": pods}})
        return self._base

    def _join(self, port: int) -> None:
        self.joined += 1
        self._serving[port] = snapshot.Endpoint(
            id=f"uid-{self.joined}", pod=f"web-{self.joined}", address="127.0.0.1", port=port
        )

    def _leave(self, port: int, now: float) -> None:
        self.left += 1
        leaving = {"state": EndpointState.DRAINING, "draining_since": now}
        self._draining.append(self._serving.pop(port).model_copy(update=leaving))


def _base() -> snapshot.Snapshot:
    authority = trustme.CA()
    leaf = authority.issue_cert(HOST)
    certificate = snapshot.Certificate(
        chain=b"".join(pem.bytes() for pem in leaf.cert_chain_pems).decode(),
        key=leaf.private_key_pem.bytes().decode(),
    )
    rule = snapshot.Rule(
        name="web",
        matches=(snapshot.Match(),),
        backends=(snapshot.Backend(service="web", endpoints="shop/web:80"),),
        scope="web",
        persistence=snapshot.Persistence(
            type="Cookie",
            cookie=snapshot.Cookie(name=COOKIE),
            idle_timeout=SESSION,
            absolute_timeout=60,
            drain_timeout=DRAIN,
        ),
        timeouts=snapshot.Timeouts(body_idle=BODY_IDLE, request=REQUEST, first_byte=REQUEST / 2),
        limits=snapshot.Limits(requests_per_endpoint=1000),
    )
    route = snapshot.Route(
        namespace="shop",
        name="web",
        created=1,
        hosts=(HOST,),
        rules=(rule,),
        tls=snapshot.RouteTls(certificate="shop/tls", redirect=False),
    )
    return snapshot.Snapshot(
        fleet=FLEET,
        epoch=int(time.time()),
        revision=0,
        settings=settings.Settings(
            limits=settings.Limits(body_bytes=4 << 20),
            timeouts=settings.Timeouts(head=HEAD),
        ),
        keys=snapshot.TokenKeys(
            sealing=1,
            keys={1: b64encode(secrets.token_bytes(32)).decode()},
            hashing=b64encode(secrets.token_bytes(32)).decode(),
        ),
        routes={route.key: route},
        endpoints={},
        certificates={"shop/tls": certificate},
    )
