"""What the machine can do at best: memory, arithmetic, transfers. Everything else is compared with it."""

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.report import RowWriter
from benchmarks.gpu.trip import Trip
from models.networks.tf32 import allow_tf32

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32, "fp32": torch.float32}
_CALLS = 5


def measure(trip: Trip) -> None:
    """Write gpu-ceilings.json."""
    report = RowWriter(trip.output, "ceilings", "medians of five runs; a copy counts bytes read and written")
    device = torch.device(trip.device)
    matrix, copied, sent = (256, 1 << 20, 1 << 20) if trip.quick else (8192, 1 << 30, 1 << 28)
    source = torch.empty(copied, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    report.add("ceilings", what="copy", bytes_per_s=2 * copied / _seconds(partial(target.copy_, source), device))
    del source, target
    for name, dtype in _DTYPES.items():
        try:
            allow_tf32(name == "tf32")
            a, b = (torch.randn(matrix, matrix, device=device).to(dtype) for _ in range(2))
            product = partial(torch.mm, a, b, out=torch.empty(matrix, matrix, device=device, dtype=dtype))
            report.add("ceilings", what=name, flops=2.0 * matrix**3 / _seconds(product, device))
        except RuntimeError as error:
            report.fail("ceilings", error, what=name)
    if trip.cuda:
        there = torch.empty(sent, dtype=torch.uint8, device=device)
        for kind in ("pinned", "pageable"):
            here = torch.zeros(sent, dtype=torch.uint8, pin_memory=kind == "pinned")
            to_gpu = sent / _seconds(partial(there.copy_, here, non_blocking=True), device)
            report.add("ceilings", what=f"to the GPU, {kind}", bytes_per_s=to_gpu)


def ceilings_of(output: Path, precision: str) -> tuple[float, float] | None:
    """Operations and bytes a second that were seen here, None if they were not."""
    path = output / "gpu-ceilings.json"
    if not path.exists():
        return None
    rows = {row["what"]: row for row in json.loads(path.read_text())["results"].get("ceilings", [])}
    flops, moved = rows.get(precision, {}).get("flops"), rows.get("copy", {}).get("bytes_per_s")
    return (flops, moved) if flops and moved else None


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    wait: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    wait()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(_CALLS):
            call()
        wait()
        times.append((time.perf_counter() - began) / _CALLS)
    return statistics.median(times)
