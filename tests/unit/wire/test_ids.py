"""Ids of requests."""

from itertools import islice

from stickyroute_proxy.wire.ids import ids


def test_ids_are_the_prefix_and_numbers_that_go_on():
    found = list(islice(ids(b"p"), 1000))
    assert found == [b"p%x" % number for number in range(1 << 28, (1 << 28) + 1000)]
