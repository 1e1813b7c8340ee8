import numpy as np

from benchmarks.serving.overload import DEADLINE_S, RAMP_S, summarise
from benchmarks.serving.poisson import BROKEN, UNANSWERED, Ledger, Outcome

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
        (RAMP_S + 10.0, 0.2, 200, False),
    )
    probes = {"/livez": ledger((1.0, 0.002, 200, False), (2.0, 0.1, 503, False))}
    it = summarise("ours", 0, 2.0, 0.5, Outcome(load, probes), others_cores=0.0)
    assert it.offered_per_s == 0.9
    assert it.good_per_s == 0.3
    assert it.of_peak == 0.6
    assert (it.admitted, it.refused, it.refused_without_retry_after) == (7, 2, 1)
    assert round(it.refused_p50_ms) == 20
    assert round(it.admitted_p50_ms) == 300  # of 100, 200, 300, 2,100 and 2,500
    assert it.admitted_p99_ms > 1e3 * DEADLINE_S
    assert it.statuses == {"200": 4, "504": 1, "503": 2, "broken": 1, "unanswered": 1}
    assert it.neither_done_nor_refused == 3
    assert it.probes_failed == 1
    assert round(it.late_p99_ms, 3) == 1.0
