"""The corpus's short messages mean the same wherever they are cut: at every byte, and at all bytes at once.

Without sockets, which `test_corpus` has: there each rule's shortest message comes in these pieces.
"""

from collections.abc import Iterator

from tests.component.wire.corpus.answers import every_answer
from tests.component.wire.corpus.build import SHORT, every_request
from tests.fuzz import answers, requests


def cuts(data: bytes) -> Iterator[list[bytes]]:
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def differing(read, messages) -> list[str]:
    """Which messages mean something else in other pieces."""
    short = [message for message in messages if len(message.data) <= SHORT]
    assert len(short) > 5000
    found = []
    for message in short:
        whole = read([message.data])
        for pieces in cuts(message.data):
            if (other := read(pieces)) != whole:
                found.append(f"{message.name}: {other} in {pieces}, {whole} in one")
                break
    return found


def test_requests():
    assert not differing(requests.read, every_request())


def test_answers():
    assert not differing(answers.read, every_answer())


def test_what_fuzzing_has_found():
    for data in answers.FOUND:
        answers.check(data)


def test_an_empty_line_of_its_own_between_equal_heads():
    """Some clients end a body with one; what comes behind it is read as if it came along."""
    ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    pieces = [ask, ask, b"\r\n", ask]
    found, how = requests.read(pieces)
    assert (found, how) == requests.read([b"".join(pieces)])
    assert (len(found), how) == (3, requests.OPEN)
