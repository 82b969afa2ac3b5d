from stickyroute_api.snapshot import Endpoint, Version
from stickyroute_operator.joining import CAP, Joining


def sets(**named):
    return {
        key: tuple(Endpoint(id=identity, pod=identity, address="10.0.0.1", port=80) for identity in ids)
        for key, ids in named.items()
    }


ONE, TWO = Version(1, 1), Version(1, 2)


def test_an_endpoint_is_known_when_every_current_proxy_has_its_snapshot():
    joining = Joining()
    joining.published(sets(web=["a"]), ONE, 0.0)
    assert joining.known == {}
    assert joining.settle([ONE, None], 0.1) is False
    assert joining.settle([ONE, Version(1, 0)], 0.1) is False
    assert joining.settle([ONE, TWO], 0.1) is True
    assert joining.known == {"web": {"a"}}
    assert joining.settle([ONE, TWO], 0.2) is False


def test_a_silent_proxy_is_waited_for_no_longer_than_the_cap():
    joining = Joining()
    assert joining.deadline is None
    joining.published(sets(web=["a"]), ONE, 5.0)
    joining.published(sets(web=["a", "b"]), TWO, 6.0)
    assert joining.deadline == 5.0 + CAP
    assert joining.settle([None], 6.9) is False
    assert joining.settle([None], 7.0) is True
    assert joining.known == {"web": {"a"}}
    assert joining.deadline == 6.0 + CAP


def test_without_a_current_proxy_nothing_is_waited_for():
    joining = Joining()
    joining.published(sets(web=["a"]), ONE, 0.0)
    assert joining.settle([], 0.0) is True
    assert joining.known == {"web": {"a"}}


def test_an_endpoint_that_left_joins_anew():
    joining = Joining()
    joining.published(sets(web=["a"], api=["b"]), ONE, 0.0)
    joining.settle([ONE], 0.0)
    joining.published(sets(web=["c"]), TWO, 1.0)
    assert joining.known == {}
    joining.published(sets(web=["a", "c"], api=["b"]), Version(1, 3), 1.1)
    joining.settle([TWO], 1.2)
    assert joining.known == {"web": {"c"}}
    assert joining.deadline is not None


def test_an_endpoint_that_left_while_it_waited_is_not_waited_for():
    joining = Joining()
    joining.published(sets(web=["a"]), ONE, 0.0)
    joining.published(sets(web=[]), TWO, 0.1)
    assert joining.deadline is None


def test_one_pod_in_two_sets_joins_each():
    joining = Joining()
    joining.published(sets(web=["a"]), ONE, 0.0)
    joining.settle([ONE], 0.0)
    joining.published(sets(web=["a"], admin=["a"]), TWO, 1.0)
    assert joining.known == {"web": {"a"}}
    joining.settle([TWO], 1.0)
    assert joining.known == {"web": {"a"}, "admin": {"a"}}
