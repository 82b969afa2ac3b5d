"""Deliberate breaks, one or more for each invariant: the checker has to tell each by its name.

Each is one replacement in a copy of the code, and a short run in which it can be seen.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.invariants.routes import changing
from tests.invariants.run import Plan

ROOT = Path(__file__).parents[2]
PARTS = ("api", "operator", "proxy", "cli")
FIRST = ("shop", "desk", "lounge", "rooms", "quiet")
"""The routes of the breaks that need no others."""
WEB, LOUNGE, ROOMS = 0.1, 0.7, 0.9
"""Where events pick these Services among those of `FIRST`."""
KEYED = ("shop", "badge", "wallet", "gate")
STORED = ("shop", "vault")
NAMED = ("shop", "troop", "rows")


@dataclass(frozen=True)
class Mutation:
    check: str
    """Which has to tell it."""
    file: str
    old: str
    """Found exactly once in the file."""
    new: str
    plan: Plan


def at(service, *routes):
    """Where events pick a Service of those routes."""
    names = list(changing(routes))
    return (names.index(service) + 0.5) / len(names)


def plan(*events, **more):
    usual = {
        "routes": FIRST,
        "sessions": 150,
        "requests": 40,
        "seconds": 8.0,
        "calm": 1.0,
        "settle": 0.2,
        "attacked": False,
    }
    return Plan(**{"seed": "mutation", "events": events, **usual, **more})


ATTACKED = plan(sessions=20, requests=4, seconds=2.0, attacked=True, settle=5.0)
MUTATIONS = {
    "idle sessions end a thousand times too soon": Mutation(
        "I1",
        "proxy/stickyroute_proxy/affinity/checks.py",
        "now >= binding.sealed + rule.scope.idle else",
        "now >= binding.sealed + rule.scope.idle / 1000 else",
        plan(("weights", 0.0, 0.3)),
    ),
    "another word for a pod that is not ready": Mutation(
        "I2",
        "proxy/stickyroute_proxy/affinity/endpoint.py",
        "EndpointState.NOT_READY: BindingReason.POD_NOT_READY",
        "EndpointState.NOT_READY: BindingReason.POD_TERMINATED",
        plan(("blip", WEB, 0.9), ("blip", WEB, 0.4)),
    ),
    "the application is not told": Mutation(
        "I2",
        "proxy/stickyroute_proxy/affinity/bind.py",
        "return Decision(endpoint, reason, token, NOTICES.get(reason), token, binding=fresh)",
        "return Decision(endpoint, reason, token, None, token, binding=fresh)",
        plan(("delete_pod", WEB, 0.1), ("delete_pod", WEB, 0.4)),
    ),
    "the token is left where it was": Mutation(
        "I2",
        "proxy/stickyroute_proxy/affinity/failover.py",
        "return _turn_away(rule, lost, now, ends=True)",
        "return _turn_away(rule, lost, now, ends=False)",
        plan(("delete_pod", at("gate", *KEYED), 0.1), routes=KEYED),
    ),
    "our header is the application's": Mutation(
        "I8",
        "proxy/stickyroute_proxy/affinity/carrier.py",
        'return [line for line in lines if plain(line.partition(b":")[0]) != ours]',
        "return lines",
        plan(("weights", 0.0, 0.3), routes=KEYED, seconds=4.0),
    ),
    "an envelope is the application's to open": Mutation(
        "I8",
        "proxy/stickyroute_proxy/affinity/envelope.py",
        "return key + equals + before + unwrap(value) + after",
        "return key + equals + before + value + after",
        plan(("weights", 0.0, 0.3), routes=KEYED, seconds=4.0),
    ),
    "a value belongs to the pod that the session left": Mutation(
        "I1",
        "proxy/stickyroute_proxy/affinity/mint.py",
        "else moved(scope, held, endpoint, now)",
        "else held",
        # Parallel requests, one of which is the first to tell: the others' answers count.
        plan(
            *(("delete_pod", at("wallet", *KEYED), size) for size in (0.1, 0.1, 0.4, 0.1, 0.4, 0.1)),
            routes=KEYED,
            sessions=500,
            requests=20,
        ),
    ),
    "a StatefulSet's pods are as any": Mutation(
        "I1",
        "proxy/stickyroute_proxy/affinity/scope.py",
        '"StatefulPod": attrgetter("stable")',
        '"StatefulPod": attrgetter("key")',
        plan(("delete_pod", at("rows", *NAMED), 0.1), routes=NAMED),
    ),
    "a version is one pod": Mutation(
        "I1",
        "proxy/stickyroute_proxy/affinity/scope.py",
        '"Cohort": attrgetter("cohort")',
        '"Cohort": attrgetter("key")',
        plan(
            ("delete_pod", at("troop", "shop", "troop"), 0.1),
            routes=("shop", "troop"),
            sessions=300,
            requests=30,
            seconds=12.0,
            lead=0.35,
        ),
    ),
    "the store is not asked": Mutation(
        "I1",
        "proxy/stickyroute_proxy/store/memory.py",
        "            link.find(Lookup(keys, recall))",
        "            recall.failed()",
        plan(("weights", 0.0, 0.3), routes=STORED, seconds=4.0),
    ),
    "an emptied store stays empty": Mutation(
        "I1",
        "proxy/stickyroute_proxy/store/memory.py",
        "self._refill_some(reversed(list(self._known)))",
        "self._refill_some(iter(()))",
        plan(("store_away", 0.0, 0.1), routes=STORED, seconds=16.0, sessions=400, requests=12),
    ),
    "a chat that is silent is idle": Mutation(
        "I1",
        "proxy/stickyroute_proxy/affinity/retry.py",
        "scope.keyring.seal(binding._replace(sealed=now, flags=binding.flags | LONG_LIVED), scope.identity)",
        "scope.keyring.seal(binding._replace(sealed=now), scope.identity)",
        plan(("weights", 0.0, 0.3), routes=("shop", "chat"), sessions=240, requests=10, seconds=12.0),
    ),
    "chats outlast their pod's drain": Mutation(
        "I5",
        "proxy/stickyroute_proxy/wire/tunnels.py",
        "                if found is not None and tunnel.opened < found.before:",
        "                if found is not None and not found.before:",
        plan(
            ("delete_pod", 0.9, 0.1),
            ("delete_pod", 0.9, 0.1),
            routes=("shop", "chat"),
            sessions=240,
            requests=10,
            seconds=16.0,
        ),
    ),
    "values are placed by remainder": Mutation(
        "I3",
        "proxy/stickyroute_proxy/affinity/rendezvous.py",
        "return group.endpoints[scores.index(max(scores))]",
        "return group.endpoints[number % len(scores)]",
        plan(("scale_out", ROOMS, 0.9), ("delete_pod", ROOMS, 0.4), sessions=400, lead=0.35),
    ),
    "a pod is who has its address": Mutation(
        "I4",
        "proxy/stickyroute_proxy/affinity/endpoint.py",
        "self.key = endpoint_key(given.id)",
        "self.key = endpoint_key(given.address)",
        # Sessions that ask twice: the new pod is there before they come back.
        plan(("reuse", WEB, 0.1), seconds=16.0, sessions=600, requests=2, lead=0.35),
    ),
    "draining pods are as good as others": Mutation(
        "I5",
        "proxy/stickyroute_proxy/affinity/balance.py",
        "endpoint.state is EndpointState.NOT_READY else 3",
        "endpoint.state is EndpointState.NOT_READY else 0",
        plan(("delete_pod", LOUNGE, 0.1), ("delete_pod", WEB, 0.4)),
    ),
    "each proxy has its own way to fail over": Mutation(
        "I6",
        "proxy/stickyroute_proxy/affinity/balance.py",
        "number = self.keyring.number(session)\n",
        "number = hash(session) & (1 << 64) - 1\n",
        plan(("scale_in", WEB, 0.9), ("scale_in", LOUNGE, 0.9), sessions=800, requests=20, lead=0.35),
    ),
    "everything may be sent twice": Mutation(
        "I7",
        "proxy/stickyroute_proxy/exchange.py",
        "self._repeatable = not head.body and head.method in IDEMPOTENT",
        "self._repeatable = True",
        plan(
            *(("crash", WEB, size) for size in (0.1, 0.3, 0.1, 0.3, 0.1)), sessions=250, slow=600, lead=0.35
        ),
    ),
    "the head before is as good as this one": Mutation(
        "I8",
        "proxy/stickyroute_proxy/wire/head.py",
        "            same\n            and method == self.method",
        "            self._tail_of\n            and method == self.method",
        plan(("weights", 0.0, 0.3), seconds=4.0),
    ),
    "any snapshot is newer": Mutation(
        "I9",
        "proxy/stickyroute_proxy/receive.py",
        "if held is None or version > held:",
        "if held is None or version != held:",
        plan(("scale_out", WEB, 0.1), ("rival", 0.0, 0.0)),
    ),
    "the disk is not read": Mutation(
        "I10",
        "proxy/stickyroute_proxy/process.py",
        "        if self._kept is None:\n            return\n        snapshot = keep.load",
        "        if self._kept is not None:\n            return\n        snapshot = keep.load",
        plan(("kill_operator", WEB, 0.1), seconds=10.0),
    ),
    "one Service's changes are not followed": Mutation(
        "I11",
        "operator/stickyroute_operator/store.py",
        "    if known == item:\n",
        "    if known == item or (known and getattr(item, 'service', '') == 'web'):\n",
        plan(("scale_out", WEB, 0.1), seconds=16.0, requests=20),
    ),
    "a host belongs to whoever asks last": Mutation(
        "I12",
        "operator/stickyroute_operator/translate/conflicts.py",
        "for route in sorted(routes, key=lambda route: route.age):",
        "for route in sorted(routes, key=lambda route: route.age, reverse=True):",
        plan(("bad_routes", 0.0, 0.0)),
    ),
    "connections that clients left are kept": Mutation(
        "I13",
        "proxy/stickyroute_proxy/wire/downstream.py",
        "        self._leave()\n        self._plane.closed(self)\n        if exchange is not None:",
        "        self._leave()\n        if exchange is not None:",
        ATTACKED,
    ),
    "a move counts twice": Mutation(
        "moves counted",
        "proxy/stickyroute_proxy/affinity/failover.py",
        "        scope.moved += 1\n",
        "        scope.moved += 2\n",
        plan(("epoch", 0.0, 0.0), ("delete_pod", WEB, 0.4)),
    ),
    "a session counts for each proxy": Mutation(
        "sessions counted",
        "operator/stickyroute_operator/ledger.py",
        "return round(stated * counted / carried) if carried else stated",
        "return stated",
        plan(("weights", 0.0, 0.3), settle=6.0),
    ),
}


def copied(folder, mutation):
    """A copy of the code, broken where the mutation says; the paths to find it by."""
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / mutation.file
    text = file.read_text()
    assert text.count(mutation.old) == 1, f"{mutation.file} has changed: {mutation.old!r}"
    file.write_text(text.replace(mutation.old, mutation.new))
    return os.pathsep.join([*(str(folder / part) for part in PARTS), str(ROOT)])


def perform(mutation, folder):
    """The logs of a run of the mutation's plan with the broken code."""
    paths = copied(folder / "code", mutation)
    logs = folder / "logs"
    logs.mkdir()
    given = json.dumps(dataclasses.asdict(mutation.plan))
    done = subprocess.run(
        [sys.executable, "-m", "tests.invariants.run", str(logs), given],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return logs
