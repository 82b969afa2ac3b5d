"""Settings that change while the operator runs."""

import asyncio
import contextlib
import logging

import pytest
from tests.waiting import until

from stickyroute_api.settings import Settings
from stickyroute_operator import settings
from stickyroute_operator.settings import follow


@pytest.fixture
async def following(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "POLL", 0.001)
    file, taken = tmp_path / "settings.json", []
    file.write_text("{}")
    task = asyncio.create_task(
        follow(file, lambda given: taken.append(given) if given not in taken else None)
    )
    yield file, taken
    assert not task.done(), task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"limits": {"headBytes": 1}}', "limits.headBytes: must be from 1Ki to 1Mi"),
        (
            '{"trustedProxies": ["10.0.0.1/8"]}',
            "trustedProxies[0]: 10.0.0.1/8 has host bits set: write a network",
        ),
        ("", "is not JSON"),
        (None, "cannot be read: No such file"),
    ],
)
async def test_a_bad_file_is_told_once_and_the_last_good_one_stays(following, caplog, content, told):
    file, taken = following
    await until(lambda: taken == [Settings()])
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    await until(lambda: caplog.messages)
    await asyncio.sleep(0.05)
    (message,) = caplog.messages
    assert str(file) in message
    assert told in message
    assert "the last good settings stay; mend" in message
    assert all(record.levelno == logging.ERROR and not record.exc_info for record in caplog.records)
    assert taken == [Settings()]
    file.write_text('{"limits": {"pipelined": 7}}')
    await until(lambda: len(taken) == 2)
    assert taken[1].limits.pipelined == 7
