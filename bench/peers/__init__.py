"""The proxies that are measured: one module each."""

from bench.peers.caddy import Caddy
from bench.peers.envoy import Envoy
from bench.peers.haproxy import HAProxy
from bench.peers.nginx import Nginx
from bench.peers.peer import Peer
from bench.peers.stickyroute import StickyRoute
from bench.peers.traefik import Traefik

__all__ = ["Caddy", "Envoy", "HAProxy", "Nginx", "Peer", "StickyRoute", "Traefik"]
