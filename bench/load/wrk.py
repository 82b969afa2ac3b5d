"""Closed loop: as many requests as come back, by wrk."""

import re
import subprocess
from dataclasses import dataclass
from typing import Final

from bench import site

CONNECTIONS: Final = 64
_TOTAL: Final = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m), ")
_WRONG: Final = re.compile(r"(Non-2xx|Socket errors).*")
_UNIT: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class LoadError(Exception):
    """The load did not go through; the text says how."""


@dataclass(frozen=True, slots=True)
class Answered:
    requests: int
    seconds: float


def parse(text: str) -> Answered:
    """What wrk printed. LoadError where not all requests were answered well."""
    found = _TOTAL.search(text)
    wrong = _WRONG.search(text)
    if found is None or wrong or not int(found[1]):
        raise LoadError(f"wrk reports {wrong[0] if wrong else text.strip() or 'nothing'}")
    return Answered(int(found[1]), float(found[2]) * _UNIT[found[3]])


def run(url: str, cookies: str, seconds: float) -> Answered:
    """Load for so many seconds, over connections that are kept alive. Raises LoadError."""
    fields = [*site.FIELDS, f"Host: {site.HOST}"]
    if cookies:
        fields.append(f"Cookie: {cookies}")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    for field in fields:
        command += ["-H", field]
    done = subprocess.run([*command, url], check=False, capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"wrk failed: {done.stderr.strip()}")
    return parse(done.stdout)
