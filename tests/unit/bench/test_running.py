import socket
import sys
from pathlib import Path

import pytest
from bench import machine, running, site
from bench.peers.peer import Peer

SERVER = """
import itertools, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    pods = itertools.cycle(sys.argv[2:])
    cookies = itertools.count()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Set-Cookie", f"web={next(self.cookies)}; Path=/")
        self.send_header("X-Pod", next(self.pods))
        self.send_header("Content-Length", "0")
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Fake(Peer):
    name = "fake"

    def __init__(self, port, *pods):
        self.port = port
        self.pods = pods

    def version(self):
        return "1.0.0"

    def write(self, folder, certificate):
        pass

    def command(self, folder):
        return [sys.executable, "-c", SERVER, str(self.port), *self.pods]


@pytest.fixture
def port():
    with socket.create_server((site.ADDRESS, 0)) as free:
        return free.getsockname()[1]


def start(proxy, folder):
    processes = []
    with machine.running(processes):
        return running.start(proxy, folder, site.Certificate(*[Path()] * 4), processes)


def test_a_peer_is_met_before_it_is_measured(tmp_path, port):
    peer = start(Fake(port, "18101"), tmp_path)
    assert peer.cookies == "web=1"
    assert peer.idle_memory > 1 << 20


def test_a_browser_keeps_the_newest_cookie(tmp_path, port):
    processes = []
    with machine.running(processes):
        peer = running.start(Fake(port, "18101"), tmp_path, site.Certificate(*[Path()] * 4), processes)
        before = peer.cookies
        peer.visit()
    assert before == "web=1"
    assert peer.cookies not in {"", before}


def test_a_peer_that_is_not_sticky_is_refused(tmp_path, port):
    with pytest.raises(running.StartError, match="fake is not sticky: one cookie reached 3 pods"):
        start(Fake(port, "18101", "18102", "18103"), tmp_path)


class Ended(Fake):
    def command(self, folder):
        return ["true"]


def test_the_answers_of_another_process_are_not_a_peers(tmp_path):
    with (
        socket.create_server((site.ADDRESS, 0)) as other,
        pytest.raises(running.StartError, match="fake says"),
    ):
        start(Ended(other.getsockname()[1], "18101"), tmp_path)
