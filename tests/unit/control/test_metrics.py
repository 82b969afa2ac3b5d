"""What several processes counted, as one proxy's metrics."""

import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from stickyroute_proxy.exposition import Exposition
from stickyroute_proxy.health.watch import Watch
from stickyroute_proxy.metrics import FAMILIES, decode, encode, lasting, read, total
from stickyroute_proxy.wire.counters import BUCKETS, Counters

numbers = st.integers(0, 1000)


def values(family):
    labels = st.tuples(*(st.text("ab-/", max_size=3) for _ in family.labels))
    width = len(BUCKETS) + 2
    value = st.lists(numbers, min_size=width, max_size=width) if family.kind == "histogram" else numbers
    return st.dictionaries(labels, value, max_size=3)


samples = st.fixed_dictionaries({}, optional={name: values(family) for name, family in FAMILIES.items()})


def flat(found):
    """Every sample as the exposition has it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(Exposition(found)).decode())
        for sample in family.samples
    }


@given(st.lists(samples, max_size=3))
def test_the_total_is_the_sum_of_each_sample(parts):
    summed = flat(total(parts))
    expected = {}
    for part in parts:
        for key, value in flat(part).items():
            expected[key] = expected.get(key, 0) + value
    assert summed == expected


@given(samples)
def test_they_pass_the_channel_unchanged(found):
    assert decode(encode(found)) == found


@given(samples, samples)
def test_a_replaced_process_takes_no_counter_back(last, fresh):
    before = flat(last)
    for key, value in flat(lasting(last)).items():
        assert value == before[key]
    after = flat(total((lasting(last), fresh)))
    gauges = {name for name, family in FAMILIES.items() if family.kind == "gauge"}
    for key, value in before.items():
        if key[0] not in gauges:
            assert after[key] >= value


@pytest.mark.parametrize("attribute", Counters.__slots__)
def test_whatever_is_counted_is_exposed(attribute):
    of = {family.of for family in FAMILIES.values()}
    # What ever began is what the rules count and what is under way.
    assert attribute in of | {"rules", "unrouted", "requests", "ended"}


def test_what_is_read_is_known_and_well_formed():
    counters = Counters()
    counters.of("shop/shop", "app").add(200, 0.003)
    counters.refused[503] = 2
    found = read(None, counters, Watch(Random(0), lambda: 1.0))
    assert found.keys() <= FAMILIES.keys()
    text = open_metrics(Exposition(found)).decode()
    assert 'stickyroute_requests_total{code="2xx",namespace="shop",route="shop",rule="app"} 1' in text
    assert 'stickyroute_request_seconds_bucket{le="0.005",namespace="shop",route="shop",rule="app"} 1' in text
    assert 'stickyroute_answers_own_total{code="503"} 2' in text


ROOT = Path(__file__).parents[3]
OF_THE_OPERATOR = {
    "stickyroute_certificate_expiry_seconds",
    "stickyroute_pod_sessions",
    "stickyroute_proxies",
    "stickyroute_push_seconds",
    "stickyroute_reconcile_seconds",
    "stickyroute_reconciliations_total",
    "stickyroute_resync_age_seconds",
    "stickyroute_resyncs_total",
    "stickyroute_routes",
    "stickyroute_service_sessions",
    "stickyroute_status_writes_total",
}


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str)
def test_metrics_that_a_page_names_are_there(page):
    named = set(re.findall(r"`(stickyroute_\w+)(?:\{[\w,]*\})?`", page.read_text()))
    known = {name + ("_total" if family.kind == "counter" else "") for name, family in FAMILIES.items()}
    assert named <= known | OF_THE_OPERATOR


@pytest.mark.parametrize(("name", "family"), FAMILIES.items(), ids=str)
def test_each_metric_is_documented_as_it_is(name, family):
    full = name + ("_total" if family.kind == "counter" else "")
    labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
    page = (ROOT / "docs/metrics.md").read_text()
    assert f"| `{full}{labels}` | {family.kind} | {family.text} |\n" in page


def test_each_metric_of_the_operator_is_documented():
    assert set(re.findall(r"`(stickyroute_\w+)", (ROOT / "docs/metrics.md").read_text())) >= OF_THE_OPERATOR
