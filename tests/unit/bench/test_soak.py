import asyncio
import time
from random import Random

import pytest
from bench.soak import ids, kinds, press, stage, verdict
from bench.soak.client import Client, Tally, check
from bench.soak.fleet import LEAST, Fleet
from bench.soak.messages import Answer, UntimelyError, WrongError, take_answer
from bench.soak.pulse import BEAT, LATE, Pulse

from stickyroute_proxy.metrics import FAMILIES

NAME, OTHER = b"0123456789abcdef", b"fedcba9876543210"


@pytest.mark.parametrize(("end", "right"), [(100.0, True), (104.0, True), (106.0, False), (50.0, True)])
def test_memory_may_grow_by_a_twentieth_after_the_mark(end, right):
    samples = [10.0] * 20 + [100.0] * 60 + [end] * 20
    assert (verdict.grown(samples) == []) is right


def test_one_outlier_is_no_growth():
    assert verdict.grown([100.0] * 95 + [500.0] + [100.0] * 4) == []


def test_a_run_too_short_to_judge_is_a_fault():
    assert "too short" in verdict.grown([1.0] * 5)[0]


def test_what_is_left_of_the_load_is_named():
    (fault,) = verdict.unreturned({"open files": 20, "threads": 6}, {"open files": 21, "threads": 5})
    assert fault == "open files is 21 with the load gone; it was 20 after the warm-up"


def test_what_is_read_of_the_proxy_has_the_names_that_it_gives():
    gauges = {name for name, family in FAMILIES.items() if family.kind == "gauge"}
    counters = {f"{name}_total" for name, family in FAMILIES.items() if family.kind == "counter"}
    assert {*stage.GAUGES.values(), stage.MEMORY} <= gauges
    assert {stage.REQUESTS, stage.SHED} <= counters


@pytest.mark.parametrize(
    ("pairs", "right"),
    [
        ([(1.0, 1.5)] * 5, True),
        ([(1.0, 1.6)] * 5, False),
        ([(1.0, 1.6)] * 3 + [(1.0, 1.0)] * 2, False),
        ([(1.0, 1.0)] * 3 + [(1.0, 9.0)] * 2, True),
    ],
    ids=["at the limit", "each", "most", "two outliers"],
)
def test_slow_clients_harm_where_most_pairs_say_so(pairs, right):
    assert (verdict.harmed(pairs, 0) == []) is right


def test_too_few_pairs_to_judge_slow_clients_by_are_a_fault():
    (fault,) = verdict.harmed([(1.0, 1.0)] * 2, 6)
    assert fault.startswith("slow clients were not judged: of 8 pairs of rounds 6 are void")


@pytest.mark.parametrize(
    ("used", "idle", "right"),
    [
        (0.35, 0.5, lambda rate: rate > 1000),
        (0.7, 0.5, lambda rate: rate == 1000),
        (1.0, 0.5, lambda rate: rate < 1000),
        (0.35, 0.02, lambda rate: rate < 1000),
    ],
    ids=["more", "as it is", "less", "the load has nothing left"],
)
def test_the_rate_follows_what_the_proxy_uses(used, idle, right):
    assert right(press.adapted(1000.0, used, idle, 0.7))


def test_the_rate_has_its_bounds():
    assert press.adapted(1e9, 0.1, 0.9, 0.7) < 1e6
    assert press.adapted(1.0, 0.9, 0.9, 0.7) > 1


def test_a_slow_client_may_hold_so_much_memory():
    assert verdict.costly(64 * 1024) == []
    assert verdict.costly(300 * 1024) == ["a slow client holds 300 KiB of the proxy's memory"]


async def test_a_pulse_misses_what_keeps_the_loop():
    pulse = Pulse()
    assert not pulse.missed(0.0)
    beating = asyncio.create_task(pulse.run())
    await asyncio.sleep(0)
    began = time.monotonic()
    assert not pulse.missed(began)
    time.sleep(BEAT + LATE + 0.05)  # noqa: ASYNC251 - it keeps the loop
    assert pulse.missed(began)
    beating.cancel()


def test_a_tally_goes_from_process_to_process():
    tally, sum_of_both = Tally(), Tally()
    tally.good["slow"] += 2
    tally.fault("slow", "amiss")
    for _ in range(2):
        sum_of_both.add(Tally.load(tally.dump()))
    assert (sum_of_both.good, sum_of_both.bad) == ({"slow": 4}, {"slow": 2})
    assert sum_of_both.faults == ["slow: amiss"] * 2


def client(missed):
    pulse = Pulse()
    pulse.missed = lambda _: missed
    return Client("slow", None, Random(1), Tally(), asyncio.Event(), pulse)


@pytest.mark.parametrize(
    ("error", "missed", "found"),
    [
        (UntimelyError, False, (1, 0)),
        (UntimelyError, True, (0, 1)),
        (WrongError, False, (1, 0)),
        (WrongError, True, (1, 0)),
    ],
)
async def test_what_goes_amiss_by_the_clock_counts_where_the_soak_kept_time(error, missed, found):
    one = client(missed)

    async def visit(one):
        one.stop.set()
        raise error("amiss")

    await kinds.run(visit, one, 0)
    assert (one.tally.bad.total(), one.tally.unjudged.total()) == found


def answer(name=NAME, body=None, status=200):
    return Answer(status, {b"x-soak-id": name}, ids.repeated(NAME, 100) if body is None else body)


def test_an_answer_of_its_own_is_right():
    check(answer(), NAME, 100)


@pytest.mark.parametrize(
    "wrong",
    [
        answer(status=502),
        answer(name=OTHER),
        answer(body=ids.repeated(NAME, 99)),
        answer(body=ids.repeated(NAME, 48) + ids.repeated(OTHER, 52)),
    ],
    ids=["status", "another's head", "incomplete", "another's part"],
)
def test_any_other_is_a_fault(wrong):
    with pytest.raises(WrongError):
        check(wrong, NAME, 100)


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_taken_when_all_of_it_is_there_and_no_more(message):
    for end in range(len(message)):
        assert take_answer(bytearray(message[:end])) is None
    buffer = bytearray(message + b"more")
    assert take_answer(buffer).body == b"abcde"
    assert buffer == b"more"


def test_the_fleet_changes_by_its_seed_and_never_runs_empty():
    one, other = (Fleet(range(1, 9), Random(5)) for _ in range(2))
    for now in range(100):
        pods = one.next(float(now)).endpoints
        assert pods == other.next(float(now)).endpoints
        assert sum(pod.state == "Serving" for pod in pods["shop/web:80"]) >= LEAST
    assert one.joined > 50 < one.left
