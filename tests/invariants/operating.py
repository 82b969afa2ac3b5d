"""The operator as a process, which also logs what it publishes: `python -m tests.invariants.operating LOG …`.

It is the operator's own main but for two things that a machine without a cluster lacks: pods have addresses
of the loopback network, and an ordered key rotation is looked for more often.
"""

import sys
from dataclasses import replace
from pathlib import Path

from tests.invariants.logs import Log
from tests.invariants.recorder import told

from stickyroute_operator import main, publish, reconcile, rotation


def prepare(log):
    translate, published = reconcile.translate, publish.Publisher.publish

    def on_loopback(state, previous=None):
        return translate(replace(state, allow_loopback=True), previous)

    def publish_and_log(self, snapshot):
        log.event("published", **told(snapshot))
        published(self, snapshot)

    reconcile.translate = on_loopback
    publish.Publisher.publish = publish_and_log
    rotation.POLL = 0.5


if __name__ == "__main__":
    prepare(Log(Path(sys.argv[1])))
    main.main(sys.argv[2:])
