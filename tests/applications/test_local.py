"""`examples/local.py`, as the examples' READMEs say it."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
from tests.applications.fleet import EXAMPLES

URL = "http://localhost:8080/"


async def test_an_example_runs_here_and_outlives_a_pod(tmp_path):
    log = tmp_path / "log"
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with log.open("w") as output:
        script = await asyncio.create_subprocess_exec(
            *(sys.executable, EXAMPLES / "local.py", EXAMPLES / "login"),
            env={**os.environ, "PATH": paths},
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as http:
            while "Please log in" not in (form := await asked(http)):
                assert script.returncode is None, log.read_text()
                await asyncio.sleep(0.2)
            data = {"name": "ann", "csrfmiddlewaretoken": re.search(r'value="(\w+)"', form)[1]}
            async with http.post(URL + "login", data=data) as answer:
                text, _, pod = (await answer.text()).partition(" at ")
            assert text == "ann, visit 1"
            assert await asked(http) == f"ann, visit 2 at {pod}"
            os.kill(int(re.search(rf"{pod} is process (\d+)", log.read_text())[1]), signal.SIGTERM)
            while "Please log in" not in await asked(http):
                await asyncio.sleep(0.2)
    finally:
        script.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(script.wait(), 20) == 0, log.read_text()


async def asked(http):
    """The page, or what stands in its way."""
    try:
        async with http.get(URL) as answer:
            return await answer.text()
    except aiohttp.ClientConnectorError as error:
        return str(error)
