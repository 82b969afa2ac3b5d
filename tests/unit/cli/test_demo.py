import os
from random import Random

import pytest
import yaml

from stickyroute_cli.demo import memory
from stickyroute_cli.demo.config import Config, EnvironmentVariableError
from stickyroute_cli.demo.memory import Memory
from stickyroute_cli.demo.pods import NotPossibleError, Pods, endpoint_slice


def ids():
    numbers = iter(range(1000))
    return lambda: f"id-{next(numbers)}"


def test_a_session_is_found_again_and_a_foreign_id_is_not_taken_over():
    pod = Memory(ids())
    session, new = pod.session(None)
    assert new
    session.count += 1
    assert pod.session(session.id) == (session, False)
    other, new = pod.session("chosen-by-an-attacker")
    assert new
    assert (other.id, other.count) == ("id-1", 0)


def test_memory_is_bounded_and_the_longest_unused_goes_first(monkeypatch):
    monkeypatch.setattr(memory, "MAX_SESSIONS", 2)
    monkeypatch.setattr(memory, "MAX_SEEN", 2)
    pod = Memory(ids())
    first, second = pod.session(None)[0], pod.session(None)[0]
    pod.session(first.id)
    pod.session(None)
    assert pod.session(first.id) == (first, False)
    assert pod.session(second.id)[1]
    assert [pod.see(name) for name in ("a-1", "a-2", "a-1", "b-1")] == [1, 1, 2, 1]
    assert pod.seen("a-") == {"a-1": 2}


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "http"), ("PORT", "70000"), ("PORT", "nan"), ("DEMO_ACCEPT_SECONDS", "-1")]
)
def test_a_bad_variable_is_named(name, value):
    with pytest.raises(EnvironmentVariableError, match=f"{name}='{value}' cannot be used: set a number"):
        Config.of({name: value})


def test_the_environment_is_read():
    config = Config.of({"POD_NAME": "web-1", "PORT": "9000", "DEMO_TIED": "1", "DEMO_CONTROL": "http://x/y/"})
    assert (config.pod, config.port, config.tied, config.control) == ("web-1", 9000, True, "http://x/y")
    assert config.accept_for == 3.0


def test_manifests_of_pods_say_which_terminate(tmp_path):
    pods = Pods(3, tmp_path, say=print, random=Random(7), environment=os.environ)
    names = [pod.name for pod in pods.pods]
    assert [name[:7] for name in names] == ["demo-1-", "demo-2-", "demo-3-"]
    pods.pods[0].state, pods.pods[0].port = "Running", 4001
    pods.pods[1].state, pods.pods[1].port = "Terminating", 4002
    pods._publish()
    first, second = yaml.safe_load_all((tmp_path / "pods.yaml").read_text())
    assert first["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert second["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert second["endpoints"][0]["targetRef"]["uid"] == pods.pods[1].uid
    assert endpoint_slice(pods.pods[1]) == second


def test_a_pod_is_stopped_or_started_only_where_that_makes_sense(tmp_path):
    pods = Pods(1, tmp_path, say=print, random=Random(7), environment=os.environ)
    name = pods.pods[0].name
    with pytest.raises(NotPossibleError, match=f"{name} is Starting: only a running pod"):
        pods.stop(name)
    with pytest.raises(NotPossibleError, match=f"{name} is Starting: only a stopped pod"):
        pods.start(name)
    with pytest.raises(NotPossibleError, match=f"there is no pod web; there are {name}"):
        pods.stop("web")
