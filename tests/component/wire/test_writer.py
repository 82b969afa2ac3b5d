"""The writer's thread on real pipes."""

import os
from select import PIPE_BUF

from tests.component.wire.harness import eventually

from stickyroute_proxy import writer
from stickyroute_proxy.wire.counters import Counters
from stickyroute_proxy.writer import Writer


def numbered(name, count):
    return [b"%b %06d %b\n" % (name, number, b"x" * (number % 700)) for number in range(count)]


def drain(handle, into, size=65536):
    while data := os.read(handle, size):
        into.extend(data)


def test_writers_that_share_a_pipe_never_mix_their_lines():
    read, write = os.pipe()
    given = [numbered(name, 3000) for name in (b"a", b"b")]
    writers = [Writer(write, Counters()) for _ in given]
    os.close(write)
    for one, lines in zip(writers, given, strict=True):
        for line in lines:
            one.put(line)
        one.end()
    assert not any(one.join(0.3) for one in writers)  # both wait for room
    seen = bytearray()
    drain(read, seen, 1500)
    assert all(one.join(10) for one in writers)
    os.close(read)
    found = seen.splitlines(keepends=True)
    for lines in given:
        assert [line for line in found if line[:1] == lines[0][:1]] == lines
    assert len(found) == 6000


def test_a_stalled_reader_holds_nobody_up_and_what_is_too_much_is_dropped(monkeypatch):
    monkeypatch.setattr(writer, "MAX_BYTES", 200_000)
    read, write = os.pipe()
    counters = Counters()
    one = Writer(write, counters)
    os.close(write)
    lines = numbered(b"a", 3000)
    for line in lines:
        one.put(line)
    assert counters.access_log_dropped
    one.end()
    assert not one.join(0.3)
    seen = bytearray()
    drain(read, seen)
    assert one.join(10)
    os.close(read)
    found = seen.splitlines(keepends=True)
    assert found == lines[: len(found)]
    assert len(found) + counters.access_log_dropped == 3000
    assert len(seen) <= 200_000 + PIPE_BUF


async def test_lines_for_a_reader_that_has_gone_are_counted():
    read, write = os.pipe()
    counters = Counters()
    one = Writer(write, counters)
    os.close(write)
    os.close(read)
    for line in numbered(b"a", 10):
        one.put(line)
    await eventually(lambda: counters.access_log_failed == 10)
    one.end()
    assert one.join(10)


async def test_a_descriptor_that_does_not_block_is_waited_for():
    read, write = os.pipe()
    os.set_blocking(write, False)
    counters = Counters()
    one = Writer(write, counters)
    os.close(write)
    lines = numbered(b"a", 1000)
    for line in lines:
        one.put(line)
    one.end()
    assert not one.join(0.3)
    seen = bytearray()
    drain(read, seen)
    assert one.join(10)
    os.close(read)
    assert seen.splitlines(keepends=True) == lines
    assert not counters.access_log_failed
