import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.open_loop import BROKEN, NOT_SENT, UNANSWERED, Ledger, Outcome
from benchmarks.serving.overload import DEADLINE_S, KEPT, NEW, RAMP_S, OverloadPlan, run_overloads, summarise
from benchmarks.serving.servers import SERVERS
from benchmarks.serving.workloads import Workload
from models.artifact.artifact import Artifact
from tests.service.pictures import png

NAN = float("nan")


def ledger(*rows: tuple[float, float, int, bool]) -> Ledger:
    """Rows of: due, latency, status, whether Retry-After was there."""
    due, latency, status, retry_after = (np.array(column) for column in zip(*rows, strict=True))
    return Ledger(due, due + 0.001, due + latency, status, retry_after)


def test_a_ledger_is_summed_up():
    load = ledger(
        (RAMP_S - 1.0, 0.1, 200, False),  # the ramp does not count
        (RAMP_S + 1.0, 0.1, 200, False),
        (RAMP_S + 2.0, 0.3, 200, False),
        (RAMP_S + 3.0, DEADLINE_S + 0.5, 200, False),  # too late to be of use
        (RAMP_S + 4.0, DEADLINE_S + 0.1, 504, False),
        (RAMP_S + 5.0, 0.01, 503, True),
        (RAMP_S + 6.0, 0.03, 503, False),
        (RAMP_S + 7.0, 0.2, BROKEN, False),
        (RAMP_S + 8.0, NAN, UNANSWERED, False),
        (RAMP_S + 9.0, NAN, NOT_SENT, False),
        (RAMP_S + 10.0, 0.2, 200, False),
    )
    probes = {"/livez": ledger((1.0, 0.002, 200, False), (2.0, 0.1, 503, False))}
    it = summarise("ours", 0, 2.0, KEPT, 0.5, Outcome(load, probes, sender_cpu_s=1.2), others_cores=0.0)
    assert it.offered_per_s == 1.0
    assert it.good_per_s == 0.3
    assert it.of_peak == 0.6
    assert (it.admitted, it.refused, it.refused_without_retry_after) == (7, 2, 1)
    assert round(it.refused_p50_ms) == 19  # since they were sent
    assert round(it.admitted_p50_ms) == 300  # of 100, 200, 300, 2,100 and 2,500
    assert it.admitted_p99_ms > 1e3 * DEADLINE_S
    assert it.statuses == {"200": 4, "504": 1, "503": 2, "broken": 1, "unanswered": 1, "not sent": 1}
    assert it.neither_done_nor_refused == 3
    assert it.probes_failed == 1
    assert round(it.sender_cores, 3) == 0.1
    assert round(it.late_p99_ms, 3) == 1.0


@pytest.mark.slow
def test_a_server_is_loaded_over_kept_and_over_new_connections(
    digit_network: Artifact, networks: Path, tmp_path: Path, require
):
    require("wrk")
    require("cc")
    alone = tmp_path / "repository"
    shutil.copytree(networks / digit_network.name / "1", alone / digit_network.name / "1")
    digits = tuple(png(first=first) for first in range(8))
    workload = Workload("test", digits[0], "image/png", alone, digit_network, 3, (2,), load_s=1, traffic=digits)
    plan = OverloadPlan(1, peak_s=1, load_s=1.0, factors=(0.05,), peak_connections=8, connections=(KEPT, NEW))
    kept, new = run_overloads(workload, [SERVERS["ours"]], plan, tmp_path, print)
    for found, connections in ((kept, KEPT), (new, NEW)):
        assert found.connections == connections
        assert found.admitted + found.refused == sum(found.statuses.values()) > 0
        assert found.neither_done_nor_refused == 0
        assert {path: probe.asked > 0 for path, probe in found.probes.items()} == dict.fromkeys(found.probes, True)
        assert found.probes_failed == 0
        assert found.sender_cores > 0
