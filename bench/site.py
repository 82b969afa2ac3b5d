"""What every peer serves: the same hosts, rules, pods and certificate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

ROOT: Final = Path(__file__).parent.parent
"""The repository."""

ADDRESS: Final = "127.0.0.1"
HOSTS: Final = tuple(f"shop{number}.example.com" for number in range(5))
HOST: Final = HOSTS[2]
"""The one that is asked."""
PODS: Final = (18101, 18102, 18103)
"""Ports of the pods behind `/`: small answers."""
BULK_PODS: Final = (18111, 18112, 18113)
"""Ports of the pods behind `/bulk/`: large bodies and WebSockets."""

ANSWER: Final = b"x" * 1024
"""The body of a small answer."""
POD_FIELD: Final = "X-Pod"
"""The field of a small answer that tells its pod."""
MIB: Final = 1 << 20
"""The size of a large body, bytes."""
MESSAGE: Final = 1024
"""The payload of a WebSocket message, bytes."""

PATH: Final = "/a/b"
DOWN: Final = "/bulk/down"
"""Answers a large body."""
UP: Final = "/bulk/up"
"""Takes a large body."""
SOCKET: Final = "/bulk/socket"
"""Becomes a WebSocket."""

FIELDS: Final = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
    "Accept: text/html,application/xhtml+xml",
    "Accept-Language: en-GB,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
)
"""What a browser sends, beside Host and Cookie."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files of one certificate for all hosts, made for one run."""

    chain: Path
    key: Path
    both: Path
    authority: Path

    @classmethod
    def make(cls, folder: Path) -> "Certificate":
        authority = trustme.CA()
        leaf = authority.issue_cert(*HOSTS)
        made = cls(folder / "tls.crt", folder / "tls.key", folder / "tls.pem", folder / "ca.crt")
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        made.chain.write_bytes(chain)
        made.key.write_bytes(leaf.private_key_pem.bytes())
        made.both.write_bytes(chain + leaf.private_key_pem.bytes())
        authority.cert_pem.write_to_path(str(made.authority))
        return made


def request(path: str, cookies: str, *more: str, method: str = "GET") -> bytes:
    """A request of the browser that holds these cookies; `more` are complete fields."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", *FIELDS, *more]
    if cookies:
        lines.append(f"Cookie: {cookies}")
    return "\r\n".join([*lines, "", ""]).encode()


def complete(answer: bytes) -> bool:
    """Whether a small answer has come to its end."""
    end = answer.find(b"\r\n\r\n")
    return end >= 0 and len(answer) >= end + 4 + len(ANSWER)
