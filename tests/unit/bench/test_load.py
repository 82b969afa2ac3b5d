import socketserver
import threading
from time import monotonic, sleep

import pytest
from bench import site
from bench.load import pace
from bench.load.crowd import crowd
from bench.load.wrk import LoadError

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + site.ANSWER
ERROR = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"


class Server(socketserver.ThreadingTCPServer):
    """Gives each part that comes one answer; an empty one closes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer):
        super().__init__((site.ADDRESS, 0), None)
        self.answer = answer
        self.open = 0
        self.lock = threading.Lock()

    def count(self, by):
        with self.lock:
            self.open += by

    def finish_request(self, request, client_address):
        self.count(1)
        try:
            while request.recv(65536) and self.answer:
                request.sendall(self.answer)
        except ConnectionResetError:
            pass
        finally:
            self.count(-1)


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        server = Server(answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("burst", [1, 16])
def test_each_request_after_the_warm_up_gives_a_latency(serve, burst):
    port = serve(GOOD).server_address[1]
    with pace.connections(port) as opened:
        taken = pace.run(opened, REQUEST, 200, 0.2, burst=burst)
    assert len(taken) == 40
    assert taken == sorted(taken)
    assert taken[0] > 0


@pytest.mark.parametrize("answer", [ERROR, b""], ids=["an error", "the end of the connection"])
def test_an_answer_that_is_not_good_makes_the_load_fail(serve, answer):
    port = serve(answer).server_address[1]
    with pytest.raises(LoadError), pace.connections(port) as opened:
        pace.run(opened, REQUEST, 200, 0.2)


def test_idle_connections_stay_open_while_the_block_runs(serve):
    server = serve(GOOD)
    with crowd(server.server_address[1], REQUEST, 20):
        assert server.open == 20
    deadline = monotonic() + 10
    while server.open and monotonic() < deadline:
        sleep(0.01)
    assert server.open == 0


def test_idle_connections_that_cannot_be_had_make_the_load_fail(serve):
    port = serve(ERROR).server_address[1]
    with pytest.raises(LoadError, match="1 idle connections were opened, then: no good answer"):
        crowd(port, REQUEST, 20).__enter__()
