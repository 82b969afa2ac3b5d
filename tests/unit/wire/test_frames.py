"""Where WebSocket frames end, however their bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyroute_proxy.wire.frames import Frames, length


def frame(size, masked=False):
    mask = 0x80 if masked else 0
    if size < 126:
        head = bytes([0x82, mask | size])
    elif size < 65536:
        head = bytes([0x02, mask | 126]) + size.to_bytes(2)
    else:
        head = bytes([0x80, mask | 127]) + size.to_bytes(8)
    return head + (b"mask" if masked else b"") + b"\x88" * size


SIZES = st.lists(
    st.tuples(st.sampled_from([0, 1, 125, 126, 127, 300, 65535, 65536, 70000]), st.booleans()), max_size=5
)


def cut(data, cuts):
    edges = sorted({0, len(data), *(max(0, min(one, len(data))) for one in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1 << 40])
@pytest.mark.parametrize("masked", [False, True])
def test_the_length_of_a_frame(size, masked):
    whole = frame(min(size, 70000), masked)
    if size > 70000:
        whole = whole[:2] + size.to_bytes(8) + (b"mask" if masked else b"")
        assert length(whole, 0) == len(whole) + size
    else:
        assert length(whole, 0) == len(whole)
    assert length(b"xx" + whole, 2) == length(whole, 0)


@given(SIZES, st.lists(st.integers(0, 140_000), max_size=12), st.integers(0, 8))
def test_it_knows_after_each_part_whether_a_frame_is_open(sizes, cuts, near):
    parts = [frame(*one) for one in sizes]
    ends, total = {0}, 0
    for part in parts:
        total += len(part)
        ends.add(total)
    data = b"".join(parts)
    frames, seen = Frames(), 0
    for piece in cut(data, [*cuts, *(end + near for end in ends), *(end - near for end in ends if end)]):
        frames.follow(piece)
        seen += len(piece)
        assert frames.between is (seen in ends)


@given(SIZES.filter(bool), st.data())
def test_the_first_end_from_the_middle_of_a_frame(sizes, data):
    parts = [frame(*one) for one in sizes]
    whole = b"".join(parts)
    begun = data.draw(st.integers(1, len(parts[0])), label="begun")
    frames = Frames()
    frames.follow(whole[:begun])
    if frames.between:
        return
    position = begun
    for piece in cut(whole[begun:], data.draw(st.lists(st.integers(0, 140_000), max_size=4), label="cuts")):
        end = frames.boundary(piece)
        if end:
            assert position + end == len(parts[0])
            return
        position += len(piece)
    raise AssertionError("the first frame is complete")
