"""What the metrics have counted of one model, as the statistics extension of the inference protocol tells it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.catalog.served_model import ServedModel
from service.metrics.families import HistogramCells
from service.metrics.metrics import OUTCOMES, Metrics

_STAGES = {"queue": "queue", "compute_input": "decode", "compute_infer": "inference", "compute_output": "respond"}
"""Our stages by the extension's names."""


def statistics(metrics: Metrics, model: ServedModel) -> dict[str, Any]:
    """Counts since the server's start, of all versions of the model, and nanoseconds; nothing is cached here."""
    sums, name = metrics.sums(), model.name
    images, batches = _sum_and_count(sums, metrics.batch_size.cells(name))
    ended = {outcome: metrics.request_duration.cells(name, outcome) for outcome in OUTCOMES}
    stages = {key: metrics.stage_duration.cells(name, stage) for key, stage in _STAGES.items()}
    return {
        "name": name,
        "version": model.version,
        "last_inference": round(1000 * sums[metrics.last_inference.cell(name)]),
        "inference_count": int(images),
        "execution_count": batches,
        "inference_stats": {
            "success": _duration(sums, ended.pop("ok")),
            "fail": _duration(sums, *ended.values()),
            **{key: _duration(sums, cells) for key, cells in stages.items()},
            "cache_hit": _duration(sums),
            "cache_miss": _duration(sums),
        },
        "response_stats": {},
        "batch_stats": [_batch(*one) for one in metrics.batches.by_size(sums, name).items()],
        "memory_usage": [],
    }


def _batch(size: int, counted: tuple[int, float]) -> dict[str, Any]:
    """The batches of one size: images are decoded before a batch is made, and responses are written after it."""
    count, seconds = counted
    outside = {"count": count, "ns": 0}
    compute_infer = {"count": count, "ns": round(1e9 * seconds)}
    return {"batch_size": size, "compute_input": outside, "compute_infer": compute_infer, "compute_output": outside}


def _duration(sums: NDArray[np.float64], *histograms: HistogramCells) -> dict[str, int]:
    counted = [_sum_and_count(sums, cells) for cells in histograms]
    return {"count": sum(count for _, count in counted), "ns": round(1e9 * sum(seconds for seconds, _ in counted))}


def _sum_and_count(sums: NDArray[np.float64], cells: HistogramCells) -> tuple[float, int]:
    """The sum of all values of a histogram, and how many there are."""
    return float(sums[cells.sum]), int(sums[cells.first : cells.sum].sum())
