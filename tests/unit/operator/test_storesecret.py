"""What is secret of the store comes from a Secret, and follows it."""

import asyncio
import base64

import pytest

from stickyroute_operator import storesecret
from stickyroute_operator.cluster import ApiError
from stickyroute_operator.storesecret import StoreSecret


@pytest.mark.parametrize(
    ("named", "data", "found"),
    [
        (StoreSecret("s"), {"password": b"p\n"}, {"password": "p"}),
        (StoreSecret("s", "pw", "ca"), {"pw": b"p", "ca": b"PEM"}, {"password": "p", "ca": "PEM"}),
        (StoreSecret("s", "", "ca"), {"ca": b"PEM"}, {"ca": "PEM"}),
    ],
)
def test_what_the_secret_says(named, data, found):
    assert named.read(data) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [({}, "Secret s has no field password: add it"), ({"password": b"\xff"}, "password is not UTF-8 text")],
)
def test_what_is_wrong_names_the_field_and_no_value(data, message):
    with pytest.raises(ValueError, match=message):
        StoreSecret("s").read(data)


async def test_a_change_is_told_and_a_failure_leaves_what_was(monkeypatch, caplog):
    monkeypatch.setattr(storesecret, "POLL", 0.01)
    monkeypatch.setattr(storesecret, "RETRY", 0.01)

    class Secrets:
        answers = iter(["one", None, "one", "two"])

        async def read(self, name):
            assert name == "s"
            answer = next(self.answers, "two")
            if answer is None:
                raise ApiError("not found")
            return {"password": answer.encode()}

    taken = []
    following = asyncio.create_task(StoreSecret("s").follow(Secrets(), taken.append))
    while len(taken) < 4:
        await asyncio.sleep(0.01)
    following.cancel()
    assert [found["password"] for found in taken[:4]] == ["one", "one", "two", "two"]
    assert "not found" in caplog.text
    assert not {"one", "two"} & set(caplog.text.split())
    assert base64.b64encode(b"two").decode() not in caplog.text
