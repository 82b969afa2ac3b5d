"""Which connection is used again."""

from stickyroute_proxy.wire.pool import FRESH, KEEP, MAX_IDLE, Pool


class Connection:
    def __init__(self):
        self.idle_since = 0.0
        self.closing = False

    def close(self):
        self.closing = True


def filled(*times):
    used = []
    pool = Pool(used.append)
    connections = [Connection() for _ in times]
    for connection, time in zip(connections, times, strict=True):
        assert pool.put(connection, time)
    return pool, connections, used


def test_the_newest_first_and_told_once():
    pool, (one, two), used = filled(1.0, 2.0)
    assert used == [pool]
    assert pool.take(2.0, repeatable=False) is two
    assert pool.take(2.0, repeatable=False) is one
    assert pool.take(2.0, repeatable=True) is None


def test_only_a_repeatable_request_dares_an_older_one():
    pool, (one,), _ = filled(0.0)
    assert pool.take(FRESH + 0.1, repeatable=False) is None
    assert pool.take(FRESH + 0.1, repeatable=True) is one
    pool, _, _ = filled(0.0)
    assert pool.take(KEEP + 0.1, repeatable=True) is None


def test_closing_ones_are_passed_over():
    pool, (one, two), _ = filled(0.0, 0.0)
    two.closing = True
    assert pool.take(0.0, repeatable=True) is one


def test_old_ones_are_swept_and_forgotten_ones_dropped():
    pool, (one, two, three), _ = filled(0.0, 1.0, 2.0)
    pool.sweep(KEEP + 0.5)
    assert (one.closing, two.closing) == (True, False)
    pool.drop(two)
    pool.drop(two)
    assert pool.take(3.0, repeatable=True) is three
    assert not pool


def test_it_is_bounded_and_closes_for_good():
    pool, connections, _ = filled(*[0.0] * MAX_IDLE)
    assert not pool.put(Connection(), 0.0)
    pool.close()
    assert all(connection.closing for connection in connections)
    assert not pool.put(Connection(), 0.0)
    assert pool.take(0.0, repeatable=True) is None
