"""HAProxy: a cookie inserted by the proxy; connections to pods are always used again."""

from pathlib import Path
from typing import Final

from bench import site
from bench.peers.peer import Peer, say

_COMMON: Final = """
global
  nbthread 1
  maxconn 15000
  no strict-limits
defaults
  mode http
  timeout client 300s
  timeout server 60s
  timeout connect 2s
  timeout http-request 15s
  timeout http-keep-alive 300s
  timeout tunnel 300s
"""


class HAProxy(Peer):
    name = "haproxy"
    binary = "haproxy"
    debian = "haproxy"
    port = 18201
    tls_port = 18301

    def version(self) -> str:
        return say("haproxy", "-v")

    def write(self, folder: Path, certificate: site.Certificate) -> None:
        hosts = " ".join(site.HOSTS)
        (folder / "haproxy.cfg").write_text(
            f"{_COMMON}frontend front\n"
            f"  bind {site.ADDRESS}:{self.port}\n"
            f"  bind {site.ADDRESS}:{self.tls_port} ssl crt {certificate.both} ssl-min-ver TLSv1.3\n"
            "  option forwardfor\n"
            f"  acl ours hdr(host) -i {hosts}\n"
            "  use_backend bulk if ours { path_beg /bulk/ }\n"
            "  use_backend web if ours { path_beg / }\n"
            + _backend("web", site.PODS)
            + _backend("bulk", site.BULK_PODS)
        )

    def command(self, folder: Path) -> list[str]:
        return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


def _backend(name: str, ports: tuple[int, ...]) -> str:
    servers = "".join(f"  server s{port} {site.ADDRESS}:{port} cookie s{port}\n" for port in ports)
    return (
        f"backend {name}\n  balance roundrobin\n  http-reuse always\n"
        f"  cookie {name} insert indirect nocache\n{servers}"
    )
