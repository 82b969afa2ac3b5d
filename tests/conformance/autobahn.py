"""Autobahn's cases, as kosoku carries them, against the server at a URL; each case's verdict as JSON.

`python autobahn.py URL [CASE…]`; `-CASE` is left out. Cases may have wildcards; without any all are run.
"""

import asyncio
import json
import os
import sys
from hashlib import sha256

from kosoku import FailureError, run_fuzzingclient


def verdict(case):
    """What the client saw: how it judged, how it was closed, which messages came."""
    return {
        "behavior": case.behavior.value,
        "close": case.behavior_close.value,
        "why": [case.result, case.result_close],
        "closed with": [case.remote_close_code, case.remote_close_reason],
        "clean": [case.was_clean, case.was_close_handshake_timeout],
        "received": sha256(repr(case.received).encode()).hexdigest(),
    }


async def main(url, *cases):
    chosen = [case for case in cases if not case.startswith("-")]
    left_out = [case.removeprefix("-") for case in cases if case.startswith("-")]
    try:
        results = await run_fuzzingclient(url, chosen or None, left_out or None, concurrency=4)
    except FailureError as failure:
        results = failure.results
    json.dump({case.case_id: verdict(case) for case in results}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # kosoku's threads may still ask for the interpreter while it ends, which aborts


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
