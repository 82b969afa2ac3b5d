"""The kept snapshot: whole or not at all, the latest first, and never readable by others."""

import asyncio
import logging
import stat
import threading

import pytest
from tests.component.control.support import FLEET, TOKEN_KEY, snapshot, with_pods

from stickyroute_proxy import keep
from stickyroute_proxy.encode import Encoder
from stickyroute_proxy.keep import Keep, load, write


async def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "state" / "snapshot.json"
    kept = Keep(path, Encoder())
    first = snapshot(routes=3)
    kept.save(first)
    await kept.close()
    assert load(path, FLEET) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept.save(second := with_pods(first, 1))
    await kept.close()
    assert load(path, FLEET) == second
    assert list(path.parent.iterdir()) == [path]


async def test_behind_a_write_only_the_latest_waits(tmp_path, monkeypatch):
    written, begun, go = [], threading.Event(), threading.Event()

    def slow(path, content):
        begun.set()
        go.wait(5)
        written.append(content)
        write(path, content)

    monkeypatch.setattr(keep, "write", slow)
    path = tmp_path / "snapshot.json"
    kept = Keep(path, Encoder())
    snapshots = [snapshot(revision=number) for number in range(1, 6)]
    kept.save(snapshots[0])
    await asyncio.to_thread(begun.wait, 5)
    for one in snapshots[1:]:
        kept.save(one)
    go.set()
    await kept.close()
    assert load(path, FLEET) == snapshots[-1]
    assert len(written) == 2


async def test_a_failed_write_is_told_and_the_old_one_stays(tmp_path, monkeypatch, caplog):
    path = tmp_path / "snapshot.json"
    kept = Keep(path, Encoder())
    kept.save(first := snapshot())
    await kept.close()

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keep.os, "fsync", full)
    kept.save(with_pods(first, 1))
    await kept.close()
    assert "snapshot 1.2 cannot be kept" in caplog.text
    assert "No space left on device" in caplog.text
    assert TOKEN_KEY not in caplog.text
    assert load(path, FLEET) == first
    assert list(tmp_path.iterdir()) == [path]


async def test_without_a_path_nothing_is_kept():
    kept = Keep(None, Encoder())
    kept.save(snapshot())
    await kept.close()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no snapshot is kept"),
        (b"\x00\xff", "of no use"),
        (snapshot().model_dump_json().encode()[:-40], "of no use"),
        (b'{"format": 7}', "this proxy speaks format 1 only"),
        (snapshot().model_copy(update={"fleet": "other"}).model_dump_json().encode(), "of fleet 'other'"),
    ],
    ids=["absent", "binary", "cut", "format", "fleet"],
)
def test_a_useless_file_is_told_with_its_name(tmp_path, caplog, content, told):
    caplog.set_level(logging.INFO)
    path = tmp_path / "snapshot.json"
    if content is not None:
        path.write_bytes(content)
    assert load(path, FLEET) is None
    assert told in caplog.text
    assert str(path) in caplog.text
    assert TOKEN_KEY not in caplog.text


def test_a_directory_in_its_place_is_told(tmp_path, caplog):
    assert load(tmp_path, FLEET) is None
    assert "cannot be read (Is a directory)" in caplog.text
