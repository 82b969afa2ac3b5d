"""Metrics in the form that the exposition library writes for Prometheus."""

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stickyroute_proxy.metrics import FAMILIES, Family, Samples, Value
from stickyroute_proxy.wire.counters import BUCKETS


class Exposition(Collector):
    """Samples as the exposition library wants them."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        for name, values in self._samples.items():
            family = FAMILIES[name]
            yield _EXPOSED[family.kind](name, family, values)


def _counter(name: str, family: Family, values: Mapping[tuple[str, ...], Value]) -> Metric:
    found = CounterMetricFamily(name, family.text, labels=family.labels)
    for labels, value in values.items():
        assert not isinstance(value, list)  # noqa: S101 - it is a counter's
        found.add_metric(labels, value)
    return found


def _gauge(name: str, family: Family, values: Mapping[tuple[str, ...], Value]) -> Metric:
    found = GaugeMetricFamily(name, family.text, labels=family.labels)
    for labels, value in values.items():
        assert not isinstance(value, list)  # noqa: S101 - it is a gauge's
        found.add_metric(labels, value)
    return found


def _histogram(name: str, family: Family, values: Mapping[tuple[str, ...], Value]) -> Metric:
    found = HistogramMetricFamily(name, family.text, labels=family.labels)
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    for labels, value in values.items():
        assert isinstance(value, list)  # noqa: S101 - it is a histogram's
        *buckets, seconds = value
        found.add_metric(labels, list(zip(bounds, accumulate(buckets), strict=True)), seconds)
    return found


_EXPOSED: Final[Mapping[str, Callable[[str, Family, Mapping[tuple[str, ...], Value]], Metric]]] = {
    "counter": _counter,
    "gauge": _gauge,
    "histogram": _histogram,
}
