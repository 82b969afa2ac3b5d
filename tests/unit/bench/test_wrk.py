import pytest
from bench.load.wrk import Answered, LoadError, parse

GOOD = """Running 3s test @ http://127.0.0.1:18201/a/b
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.34ms  401.85us  13.70ms   93.36%
    Req/Sec    48.77k     2.10k   51.22k    80.00%
  {requests} requests in {time}, 180.76MB read
Requests/sec:  48531.12
Transfer/sec:     58.31MB
"""


@pytest.mark.parametrize(
    ("time", "seconds"), [("3.10s", 3.1), ("999.50ms", 0.9995), ("1.05m", 63.0), ("100.00us", 1e-4)]
)
def test_wrk_tells_how_many_were_answered_in_what_time(time, seconds):
    answered = parse(GOOD.format(requests=150446, time=time))
    assert answered == Answered(150446, pytest.approx(seconds))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unable to connect to 127.0.0.1:18201 Connection refused",
        GOOD.format(requests=0, time="3.00s"),
        GOOD.format(requests=9, time="3.00s") + "  Non-2xx or 3xx responses: 1\n",
        GOOD.format(requests=9, time="3.00s") + "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
    ],
)
def test_load_that_was_not_answered_well_is_an_error(text):
    with pytest.raises(LoadError):
        parse(text)
