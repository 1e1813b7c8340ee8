"""Families of series: what is counted in shared rows is exposed as prometheus_client itself would expose it."""

import math

import numpy as np
import prometheus_client
import pytest

from service.metrics.buckets import BYTES_BUCKETS, REQUEST_BUCKETS, stage_buckets
from service.metrics.families import Histogram


@pytest.mark.parametrize("buckets", [stage_buckets(60.0), REQUEST_BUCKETS, BYTES_BUCKETS])
def test_a_histogram_is_exposed_as_prometheus_clients_own(buckets: tuple[float, ...]) -> None:
    values = [*np.random.default_rng(0).uniform(0, 2 * max(buckets), 200), *buckets, 0.0]
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("resnet_x", "Text.", buckets=buckets, registry=registry)
    ours = Histogram("x", "Text.", buckets)
    row = np.zeros(ours.lay_out(ours.first_keys, 0))
    ours.use(memoryview(row))
    for value in values:
        theirs.observe(value)
        ours.observe(value)
    samples = {(one.name, one.labels.get("le")): one.value for one in ours.collect(row).samples}
    (family,) = registry.collect()
    expected = {
        (one.name, one.labels.get("le")): one.value for one in family.samples if not one.name.endswith("_created")
    }
    assert samples.keys() == expected.keys()
    assert all(math.isclose(samples[key], expected[key]) for key in expected)
