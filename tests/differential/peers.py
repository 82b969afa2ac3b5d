"""The other proxies, as they come: nothing is tightened or loosened that the comparison does not need."""

import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection
from tempfile import TemporaryDirectory

from tests.waiting import free_port

HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout client 1s
  timeout server 2s
  timeout connect 1s
  timeout http-request 1s
frontend front
  bind 127.0.0.1:{port}
  default_backend web
backend web
  http-reuse always
  server one 127.0.0.1:{backend}
"""
NGINX = """
worker_processes 1;
daemon off;
master_process off;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_header_timeout 1s;
  client_body_timeout 1s;
  proxy_read_timeout 2s;
  lingering_timeout 1s;
  upstream web {{ server 127.0.0.1:{backend} max_fails=0; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://web;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      proxy_request_buffering off;
    }}
  }}
}}
"""


class Peer:
    """A proxy that is installed; `version` is what it says of itself."""

    def __init__(self, name: str, command: list[str], config: str, asked: list[str]) -> None:
        self.name = name
        self._command = command
        self._config = config
        self._asked = asked

    @property
    def installed(self) -> bool:
        return shutil.which(self._command[0]) is not None

    @property
    def version(self) -> str:
        said = subprocess.run(self._asked, check=True, capture_output=True, text=True)
        return (said.stdout + said.stderr).splitlines()[0]

    @contextmanager
    def before(self, backend: int):
        """It runs before this backend: the port that it listens on."""
        with TemporaryDirectory() as name:
            port = free_port()
            config = Path(name) / "config"
            config.write_text(self._config.format(port=port, backend=backend, folder=name))
            with (Path(name) / "log").open("wb") as log:
                process = subprocess.Popen([*self._command, str(config)], stdout=log, stderr=log)
            try:
                _await(port, process, Path(name) / "log")
                yield port
            finally:
                process.terminate()
                process.wait()


def _await(port: int, process: subprocess.Popen, log: Path) -> None:
    for _ in range(100):
        try:
            create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None:
                sys.exit(f"{process.args[0]} does not start:\n{log.read_text()}")
            time.sleep(0.05)
        else:
            return
    sys.exit(f"{process.args[0]} does not listen:\n{log.read_text()}")


PEERS = (
    Peer("HAProxy", ["haproxy", "-db", "-f"], HAPROXY, ["haproxy", "-v"]),
    Peer("nginx", ["nginx", "-c"], NGINX, ["nginx", "-v"]),
)
