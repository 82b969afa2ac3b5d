"""Real applications that nobody here wrote, against one pod and over a fleet: both must come to the same."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.applications.fleet import Example, running


@pytest.fixture
def fleet(tmp_path):
    """`async with fleet("login/login.yaml") as (pods, front, alone)`: a fleet's pods, its front, and the
    front of one pod that is alone. Options replace parts of the example's persistence.
    """

    @asynccontextmanager
    async def started(path, **policy):
        async with asyncio.timeout(120), running(Example(path, **policy), tmp_path) as all_three:
            yield all_three

    return started
