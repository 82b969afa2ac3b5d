"""REDbot's notes on URLs, as JSON. It runs an event loop of its own, so it has a process of its own.

Reads [[name, URL, method, fields], …] on standard input, writes {name: [[where, level, note, subject], …]}.
"""

import json
import sys
from configparser import ConfigParser

import thor
from redbot.resource import HttpResource
from thor.events import on


def resource(url, method, fields):
    parser = ConfigParser()
    parser.read_dict({"redbot": {"enable_local_access": "True"}})
    found = HttpResource(parser["redbot"])
    found.set_request(url, method, fields)
    return found


def notes(found):
    """Of the answer, of those before it, of what REDbot asked besides: validation, ranges, negotiation."""
    messages = [("answer", found.response)]
    messages += [(f"interim {i}", one) for i, one in enumerate(found.nonfinal_responses)]
    messages += [
        (check.check_name, check.response) for check in found.subreqs.values() if check.fetch_started
    ]
    listed = [
        [where, note.level.value, type(note).__name__, note.subject]
        for where, message in messages
        for note in message.notes
    ]
    if found.fetch_error:
        listed.append(["fetch", "bad", type(found.fetch_error).__name__, ""])
    return sorted([str(part) for part in note] for note in listed)


def main():
    results = {}
    waiting = json.load(sys.stdin)

    def following():
        if not waiting:
            thor.stop()
            return
        name, *asked = waiting.pop(0)
        found = resource(*asked)

        @on(found)
        def check_done():
            results[name] = notes(found)
            thor.schedule(0, following)

        found.check()

    thor.schedule(0, following)
    thor.run()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
