"""What a proxy keeps out of its memory."""

import subprocess
import sys
from pathlib import Path

from stickyroute_proxy.lean import give_back_code, unchanged

FIELDS = "Size: 8 kB\nRss: 8 kB\nAnonymous: {} kB\nSwap: {} kB\nSwapPss: 0 kB\nVmFlags: rd mr\n"


def mapping(permissions="r-xp", inode=7, anonymous=0, swap=0):
    header = f"7f00-7fff {permissions} 00001000 fe:00 {inode}    /usr/lib/a library.so\n"
    return header + FIELDS.format(anonymous, swap)


def test_only_what_is_as_in_its_file_is_given_back():
    assert list(unchanged(mapping() + mapping("r--p"))) == [(0x7F00, 0x7FFF)] * 2
    assert not list(unchanged(mapping("rw-p")))
    assert not list(unchanged(mapping(inode=0)))
    assert not list(unchanged(mapping("r--p", anonymous=4))), "relocated"
    assert not list(unchanged(mapping("r--p", swap=4))), "relocated, and swapped out since"
    assert not list(unchanged(""))


def test_the_process_runs_on_and_is_smaller():
    def files():
        status = Path("/proc/self/status").read_text()
        return int(status.partition("RssFile:")[2].split()[0])

    give_back_code()  # once, so that what this needs itself is loaded
    before = files()
    import decimal
    import sqlite3

    assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
    assert decimal.Decimal(6) * 7 == 42
    assert files() > before
    give_back_code()
    assert files() < before + 1000
    assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)


def test_aiohttp_serves_without_its_client_and_has_it_when_asked():
    """In a process of its own: here aiohttp is loaded."""
    script = """
import sys
from stickyroute_proxy.lean import leave_out_client
leave_out_client()
leave_out_client()
import stickyroute_proxy.process
from aiohttp import web, hdrs
assert web.Application and hdrs.HOST and "aiohttp.connector" not in sys.modules
import aiohttp
assert aiohttp.web is web and aiohttp.__version__ and "aiohttp.connector" not in sys.modules
assert aiohttp.ClientSession.__name__ == "ClientSession" and "aiohttp.connector" in sys.modules
assert aiohttp.web is web
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_a_proxy_loads_neither_aiohttps_client_nor_re2():
    script = """
import sys
from stickyroute_proxy.lean import leave_out_client
leave_out_client()
import stickyroute_proxy.main, stickyroute_proxy.process
assert not {"aiohttp.client", "aiohttp.connector", "re2"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_worker_has_no_use_for_what_serves_the_other_ports():
    script = """
import sys, stickyroute_proxy.worker
assert not {"aiohttp", "prometheus_client", "argparse"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
