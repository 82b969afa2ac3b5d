"""What is remembered of field names, and what not."""

import pytest

from stickyroute_proxy.wire.fields import AnswerKinds, Kinds


@pytest.mark.parametrize("kinds", [Kinds(frozenset((b"x-lost",))), AnswerKinds()])
def test_a_flood_of_odd_names_neither_grows_without_end_nor_shuts_out_others(kinds):
    for number in range(20_000):
        assert kinds[b"x-odd-%d" % number] == 0
        assert kinds[b"x-odd-%d-" % number + b"x" * 5000] == 0
    assert len(kinds) <= 4096
    assert sum(map(len, kinds)) <= 4096 * 64
    assert kinds[b"User-Agent"] == 0
    assert b"User-Agent" in kinds
