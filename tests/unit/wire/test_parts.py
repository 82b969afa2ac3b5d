"""Every member is in one part, and none of the parts is large."""

from stickyroute_proxy.wire.parts import Parts


def test_turns_come_to_every_member_once():
    parts = Parts(11)
    assert not parts
    members = [object() for _ in range(1000)]
    for member in members:
        parts.add(member)
        parts.add(member)
    assert parts
    found = [member for turn in range(40, 51) for member in parts.part(turn)]
    assert len(found) == 1000
    assert set(found) == set(parts) == set(members)
    assert max(len(parts.part(turn)) for turn in range(11)) < 300
    for member in members:
        parts.discard(member)
        parts.discard(member)
    assert not parts
