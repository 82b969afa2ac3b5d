"""The logs that a run leaves: JSON lines, one file for each writer, all by the machine's one clock."""

import json
import time

EVENTS, CLIENTS, PODS = "events.jsonl", "clients.jsonl", "pods.jsonl"


BUFFERED = 1 << 16
"""For the logs of single writers that end in good order: one write for many lines."""


class Log:
    """Appends lines to a file; whole ones, so that several processes may share it where it is unbuffered."""

    def __init__(self, path, buffering=0):
        self.file = path.open("ab", buffering=buffering)

    def write(self, **fields):
        self.file.write(json.dumps(fields, separators=(",", ":")).encode() + b"\n")

    def close(self):
        self.file.close()

    def event(self, event, **fields):
        self.write(**{"time": time.time(), "event": event, **fields})


def read(path):
    """The lines of a log; one that was cut off by its writer's end is left out."""
    found = []
    with path.open() as file:
        for line in file:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found
