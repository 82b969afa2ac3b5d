"""When a loop counts as overloaded."""

from stickyroute_proxy.wire.overload import LATE, Overload


def fed(*late):
    overload = Overload()
    for one in late:
        overload.tick(one)
    return overload


def test_a_pause_is_none():
    assert not fed(*[0.0] * 10, 30.0).present
    assert not fed(0.0, 1.0, 0.01, 0.0).present
    assert not fed(*[LATE * 0.9] * 100).present
    assert not fed(*[-1.0] * 10).present


def test_lasting_lag_is_one_until_it_is_well_below():
    assert not fed(*[0.5] * 5).present
    overload = fed(*[0.5] * 6)
    assert overload.present
    overload.tick(0.1)
    overload.tick(0.1)
    assert LATE > overload.lag > 0.1
    assert overload.present
    for _ in range(10):
        overload.tick(0.02)
    assert not overload.present
    for _ in range(20):
        overload.tick(0.15)
    assert not overload.present
