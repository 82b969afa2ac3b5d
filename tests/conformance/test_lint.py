import asyncio
import sys

import pytest
from tests.component.wire.harness import COOKIE, Proxy, endpoint, fleet
from tests.conformance.answers import ANSWERS
from tests.conformance.page import WITHOUT
from tests.conformance.processes import HERE, serving, told

from stickyroute_api.settings import Limits, Settings
from stickyroute_api.snapshot import Cookie, Persistence

LINTING = HERE / "linting.py"
DATED = {
    "DATE_CORRECT": "Date is added where the endpoint sent none (RFC 9110, section 6.6.1)",
    "CURRENT_AGE": "reckoned from that Date, when a second has passed since",
}
PRIVATE = "Cache-Control: private keeps the session's cookie out of shared caches"
COUNTED = "of any answer with a Cache-Control, by REDbot's own reckoning of its age"
ADDED = {
    "None": DATED,
    "Cookie": DATED
    | {
        "STORE_PRIVATE_CC": PRIVATE,
        "FRESHNESS_NONE": COUNTED,
        "CURRENT_AGE": COUNTED,
        "STALE_SERVABLE": COUNTED,
    },
}
"""Notes that the proxy may add, by the kind of persistence, and why."""
MEANT = {"STATUS_URI_TOO_LONG": "what 414 says, and is meant to say"}
"""Bad notes that our own answers may have, and why."""


def counted(notes, end=" "):
    """The (group, verdict) of each note: its answer's name up to `end`, and its level."""
    return [(name.partition(end)[0], level) for name, found in notes.items() for _, level, *_ in found]


async def lint(port):
    """REDbot's notes on every answer, to GET and HEAD."""
    asked = [
        (f"{method} {name}", f"http://127.0.0.1:{port}/{name}", method, [])
        for name in ANSWERS
        for method in ("GET", "HEAD")
    ]
    found = await told(sys.executable, LINTING, given=asked)
    assert found.keys() == {name for name, *_ in asked}
    return {name: {tuple(note) for note in notes} for name, notes in found.items()}


@pytest.mark.parametrize("kind", ["None", "Cookie"])
async def test_redbot_finds_nothing_that_the_proxy_added(proxied, page, kind):
    persistence = Persistence(type=kind, cookie=Cookie(name=COOKIE) if kind == "Cookie" else None)
    async with serving(sys.executable, HERE / "answers.py") as port, proxied(port, persistence) as through:
        direct, seen = await asyncio.gather(lint(port), lint(through))
    print(f"{len(direct)} answers linted, {sum(map(len, direct.values()))} notes without the proxy")
    if kind == "None":
        page.count("REDbot", WITHOUT, counted(direct))
    page.count("REDbot", f"with it, persistence {kind}", counted(seen))
    page.explain("REDbot", {f"`{note}`, persistence {kind}": why for note, why in ADDED[kind].items()})
    added = {
        name: found
        for name in direct
        if (found := [note for note in seen[name] - direct[name] if note[2] not in ADDED[kind]])
    }
    assert not added


async def test_redbot_finds_nothing_bad_in_answers_of_our_own(unused_tcp_port, page):
    fleets = {
        "refused": fleet(endpoint(unused_tcp_port)),
        "no endpoint": fleet(),
        "no route": fleet().model_copy(update={"routes": {}}),
        "too long": fleet(settings=Settings(limits=Limits(target_bytes=256))),
    }
    asked, proxies = [], []
    for name, given in fleets.items():
        proxies.append(await Proxy().start(given))
        path = "a" * 300 if name == "too long" else "a"
        url = f"http://127.0.0.1:{proxies[-1].port}/{path}"
        asked += [
            (f"{name}: {method} {accept}", url, method, [("Accept", accept)])
            for method in ("GET", "HEAD")
            for accept in ("text/html", "application/json", "text/plain")
        ]
    found = await told(sys.executable, LINTING, given=asked)
    for proxy in proxies:
        await proxy.plane.drain(0, 1)
    print(f"{len(asked)} answers of our own linted")
    assert found.keys() == {name for name, *_ in asked}
    assert all(found.values())
    page.count("REDbot, errors", "notes", counted(found, ":"))
    page.explain("REDbot, errors", {f"`{note}`, bad": why for note, why in MEANT.items()})
    faults = {
        name: [note for note in notes if note[1] == "bad" and note[2] not in MEANT]
        for name, notes in found.items()
    }
    assert not any(faults.values()), faults
