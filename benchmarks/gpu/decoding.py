"""How many photographs a second the cores decode, and the GPU: the ceiling of what is posted as JPEG."""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.gpu.report import RowWriter
from benchmarks.gpu.trip import Trip
from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.untrained import PHOTOGRAPHS
from models.images.decoder import MAX_PIXELS, Preprocessor
from models.machine.cores import usable_cores

_GPU_BATCH = 64


def measure(trip: Trip) -> None:
    """Write gpu-decoding.json."""
    report = RowWriter(trip.output, "decoding", "each process in a loop; resize and crop included, but on the GPU")
    seconds, picture = 0.2 if trip.quick else 2.0, photo_jpeg()
    for processes in sorted({1, usable_cores()}):
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            rates = [*pool.map(_decode, [picture] * processes, [seconds] * processes)]
        report.add("decoding", way="the project's preprocessing", processes=processes, per_s=sum(rates))
    if trip.cuda:
        try:
            report.add(
                "decoding", way=f"torchvision on the GPU, batches of {_GPU_BATCH}", per_s=_on_gpu(picture, seconds)
            )
        except Exception as error:
            report.fail("decoding", error, way="torchvision on the GPU")


def _decode(picture: bytes, seconds: float) -> float:
    preprocessor, count, began = Preprocessor(PHOTOGRAPHS, MAX_PIXELS), 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        preprocessor(picture)
        count += 1
    return count / elapsed


def _on_gpu(picture: bytes, seconds: float) -> float:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    files = [torch.frombuffer(bytearray(picture), dtype=torch.uint8)] * _GPU_BATCH
    decode_jpeg(files, mode=ImageReadMode.RGB, device="cuda")
    torch.cuda.synchronize()
    count, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        decode_jpeg(files, mode=ImageReadMode.RGB, device="cuda")
        torch.cuda.synchronize()
        count += _GPU_BATCH
    return count / elapsed
