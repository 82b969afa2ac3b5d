"""What docs/draining.md shows for `preStop` waits at the drain port until the sessions are gone."""

import asyncio
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import yaml
from tests.component.control.test_drain_port import Told, port
from tests.unit.operator.test_leases import draining

from stickyroute_proxy import drainport

PAGE = (Path(__file__).parents[3] / "docs/draining.md").read_text(encoding="utf-8")
PYTHON = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
SPECS = [
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "exec:" in text
]
CURL, BUSYBOX = [spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] for spec in SPECS]
SERVICE = "stickyroute-drain.stickyroute:9091"
POD_FIELDS = {"POD_NAMESPACE": "shop", "POD_NAME": "web-0-0"}


def python():
    return [sys.executable, "-c", PYTHON], {}


def curl():
    return CURL, {"PATH": os.environ["PATH"]}


def busybox():
    """In an image that has nothing: not even a PATH to look at."""
    path = shutil.which("busybox")
    return [word.replace("/drain/busybox", path) for word in BUSYBOX], {"PATH": "/nowhere"}


def if_installed(made):
    """The docs' commands are run as they stand, where the program is."""
    name = made.__name__
    why = f"{name}, which docs/draining.md runs, is not on PATH; on Debian: apt install {name}"
    return pytest.param(made, marks=pytest.mark.skipif(not shutil.which(name), reason=why))


def shortly(word, port):
    """A command's word as it is for this port, with a short wait."""
    assert ("wait=30s" in word) == (SERVICE in word)
    return word.replace(SERVICE, f"127.0.0.1:{port}").replace("wait=30s", "wait=100ms")


def test_the_docs_name_what_an_image_without_a_shell_needs():
    (spec,) = [spec for spec in SPECS if "initContainers" in spec]
    (begun,), (container,), (volume,) = spec["initContainers"], spec["containers"], spec["volumes"]
    mounts = begun["volumeMounts"]
    assert mounts == container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/drain"}]
    assert begun["command"] == ["cp", "/bin/busybox", BUSYBOX[0]]
    assert BUSYBOX[0] == "/drain/busybox"
    (line,) = [line for line in PAGE.splitlines() if "sleep: {" in line]
    assert yaml.safe_load(re.search(r"`(preStop: .*?)`", line)[1]) == {"preStop": {"sleep": {"seconds": 610}}}
    assert SPECS[0]["terminationGracePeriodSeconds"] == 610 + 30


@pytest.mark.parametrize("known", [True, False], ids=["drained at last", "no route knows it"])
@pytest.mark.parametrize("made", [python, if_installed(curl), if_installed(busybox)])
async def test_the_docs_wait_ends_with_the_sessions(monkeypatch, made, known):
    monkeypatch.setattr(drainport, "LOOK", 0.01)
    command, environment = made()
    told = Told(draining() if known else draining().model_copy(update={"routes": {}}))
    told.lend(1)
    async with port(told) as ask:
        words = [shortly(word, ask.port) for word in command]
        assert words != command
        process = await asyncio.create_subprocess_exec(
            *words, env={**POD_FIELDS, **environment}, start_new_session=True
        )
        try:
            if known:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(process.wait(), 1.5)
                told.lend(0)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
