"""What the demo application is told by its environment."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


class EnvironmentVariableError(Exception):
    """A variable that cannot be used; its text names the variable and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of one pod; each field's variable stands beside it."""

    pod: str
    """POD_NAME, else the host's name."""
    namespace: str = ""
    """POD_NAMESPACE: for the kubectl command that the page shows."""
    host: str = "0.0.0.0"
    """HOST to listen on."""
    port: int = 8080
    """PORT to listen on; 0 = any free one, told on standard output."""
    control: str = ""
    """DEMO_CONTROL: URL of whoever starts and stops the pods; empty on a cluster."""
    peers: str = ""
    """DEMO_PEERS: `name:port` of a headless Service, whose addresses are the pods that the page draws."""
    accept_for: float = 3.0
    """DEMO_ACCEPT_SECONDS: how long connections are still accepted after SIGTERM."""
    tied: bool = False
    """DEMO_TIED=1: end when standard input ends, and so never outlive the parent."""
    log_echo: bool = False
    """DEMO_LOG_ECHO=1: a line on standard output for each echoed request id."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; EnvironmentVariableError when one has no usable value."""
        return cls(
            pod=environment.get("POD_NAME") or platform.node() or "demo",
            namespace=environment.get("POD_NAMESPACE", ""),
            host=environment.get("HOST") or "0.0.0.0",
            port=int(_number(environment, "PORT", 8080, 65535)),
            control=environment.get("DEMO_CONTROL", "").rstrip("/"),
            peers=environment.get("DEMO_PEERS", ""),
            accept_for=_number(environment, "DEMO_ACCEPT_SECONDS", 3.0, 3600),
            tied=environment.get("DEMO_TIED") == "1",
            log_echo=environment.get("DEMO_LOG_ECHO") == "1",
        )


def _number(environment: Mapping[str, str], name: str, default: float, most: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise EnvironmentVariableError(
            f"{name}={text!r} cannot be used: set a number from 0 to {most:g}, or leave it out"
        )
    return value
