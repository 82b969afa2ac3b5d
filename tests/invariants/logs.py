"""The logs that a run leaves: JSON lines, one file for each writer, all by the machine's one clock."""

import json
import time

EVENTS, CLIENTS, PODS = "events.jsonl", "clients.jsonl", "pods.jsonl"


class Log:
    """Appends lines to a file; whole ones, so that several processes may share it."""

    def __init__(self, path):
        self.file = path.open("ab", buffering=0)

    def write(self, **fields):
        self.file.write(json.dumps(fields, separators=(",", ":")).encode() + b"\n")

    def close(self):
        self.file.close()

    def event(self, event, **fields):
        self.write(time=time.time(), event=event, **fields)


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
