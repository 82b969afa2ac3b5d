"""`python -m tests.fuzz SECONDS`: coverage-guided fuzzing of what reads clients' bytes (atheris, libFuzzer).

Starts from the shorter messages of the hostile corpus, made anew in a folder of its own. A finding ends it
with a status other than 0 and is printed; what it found interesting on the way is thrown away.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stickyroute_proxy", "tests.fuzz.connection"]):
    from tests.fuzz.connection import check_cookie, check_stream

from tests.component.wire.corpus.build import every_request

LONGEST = 2048
"""Bytes of an input."""


def one_input(data: bytes) -> None:
    """The first byte says what is fuzzed, the next four where the stream is cut."""
    if len(data) < 6:
        return
    if data[0] & 1:
        check_cookie(data[1:])
    else:
        cuts = [int.from_bytes(data[at : at + 2], "big") for at in (1, 3)]
        check_stream(data[5:], cuts)


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        count = 0
        for message in every_request():
            if len(message.data) < LONGEST - 8:
                Path(folder, f"{message.number:05}").write_bytes(b"\0\0\x20\0\x60" + message.data)
                count += 1
        Path(folder, "cookie").write_bytes(b"\1a=b; sr=token; c = d;sr=2")
        print(f"fuzzing for {seconds} s from {count} messages", flush=True)
        options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", folder], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
