"""The watches in a process of its own, as in a container."""

import subprocess
import sys

WATCH = """
import asyncio, getpass, logging

def no_user():
    raise KeyError("getpwuid(): uid not found: 65532")

getpass.getuser = no_user
logging.basicConfig(level=logging.WARNING)
from stickyroute_operator.handlers import Watches

async def main():
    task = asyncio.create_task(watches_of().run())
    await asyncio.sleep(1.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

def watches_of():
    return Watches(lambda *event: None)

asyncio.run(main())
"""


def test_watches_need_no_user_name(tmp_path):
    (tmp_path / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\nusers: [{name: u, user: {}}]\n"
    )
    env = {"KUBECONFIG": str(tmp_path / "kubeconfig"), "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", WATCH], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "uid not found" not in done.stderr
