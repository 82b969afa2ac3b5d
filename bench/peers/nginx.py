"""nginx: `sticky` where the binary has it, else a hash of the client's cookie."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bench import site
from bench.peers.peer import Peer, say


class Nginx(Peer):
    name = "nginx"
    binary = "nginx"
    debian = "nginx"
    port = 18202
    tls_port = 18302

    @property
    def cookies(self) -> str:
        return "" if sticky() else "web=bench; bulk=bench"

    def version(self) -> str:
        return f"{say('nginx', '-v')} ({'sticky' if sticky() else 'hash of the cookie'})"

    def write(self, folder: Path, certificate: site.Certificate) -> None:
        (folder / "nginx").mkdir()
        (folder / "nginx.conf").write_text(
            _main(
                _upstream("web", site.PODS)
                + _upstream("bulk", site.BULK_PODS)
                + f"""
  map $http_upgrade $connection_field {{ default upgrade; '' ''; }}
  server {{
    listen {site.ADDRESS}:{self.port} backlog=4096;
    listen {site.ADDRESS}:{self.tls_port} ssl backlog=4096;
    server_name {" ".join(site.HOSTS)};
    ssl_certificate {certificate.chain};
    ssl_certificate_key {certificate.key};
    ssl_protocols TLSv1.3;
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_field;
    proxy_request_buffering off;
    location / {{ proxy_pass http://web; }}
    location /bulk/ {{ proxy_pass http://bulk; }}
  }}
"""
            )
        )

    def command(self, folder: Path) -> list[str]:
        return ["nginx", "-p", str(folder / "nginx"), "-c", str(folder / "nginx.conf")]


def _main(http: str) -> str:
    return f"""
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  keepalive_timeout 300s;
  keepalive_requests 100000000;
  client_max_body_size 0;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  proxy_max_temp_file_size 0;
{http}}}
"""


def _upstream(name: str, ports: tuple[int, ...], *, with_sticky: bool | None = None) -> str:
    with_sticky = sticky() if with_sticky is None else with_sticky
    affinity = f"sticky cookie {name}" if with_sticky else f"hash $cookie_{name} consistent"
    servers = "".join(f" server {site.ADDRESS}:{port};" for port in ports)
    return f"  upstream {name} {{ {affinity};{servers} keepalive 256; keepalive_requests 100000000; }}\n"


@cache
def sticky() -> bool:
    """Whether the binary knows `sticky`."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "nginx.conf"
        config.write_text(_main(_upstream("web", site.PODS, with_sticky=True)))
        tried = subprocess.run(
            ["nginx", "-t", "-p", name, "-c", str(config)], check=False, capture_output=True
        )
        return not tried.returncode
