"""A worker whose engine has broken, which no picture can bring about in a real one."""

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact.artifact import read_artifact
from models.engines.engine import EngineError
from service.ipc.channels import Channels
from service.ipc.messages import BatchMessage
from service.pools.litserve import InferenceLoop
from service.worker.warmup import LoadOptions
from service.worker.worker import Worker
from tests.artifacts import LABELS, SHAPE
from tests.service.pictures import pixels
from tests.service.served import DEADLINE_S


class Broken:
    """An engine that runs nothing any more."""

    name = device = precision = "broken"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise EngineError(f"{len(images)} images: out of memory")


def make(repository: Path) -> tuple[Worker, Channels]:
    channels = Channels(1, 1, 4, int(np.prod(SHAPE)), len(LABELS))
    artifact = read_artifact(repository / "plain" / "2")
    worker = Worker(0, "cpu", [artifact], LoadOptions("auto", "auto", False, 1, {"plain": 2}), channels)
    worker._models[0] = replace(worker._models[0], engine=Broken())  # type: ignore[arg-type]
    channels.slot_pool.put(0, pixels(), time.monotonic_ns() + 10**11)
    os.write(channels.requests[0].writer, BatchMessage(0, 0, 0, 1, 1, (0,)).pack())
    return worker, channels


def test_a_worker_that_cannot_run_what_it_ran_at_warm_up_gives_no_reply(repository: Path) -> None:
    worker, channels = make(repository)
    with pytest.raises(EngineError):
        worker.batches.serve_one()
    assert channels.shared_state.began_ns[0] == 0
    os.set_blocking(channels.replies[0].reader, False)
    with pytest.raises(BlockingIOError):
        os.read(channels.replies[0].reader, 1)


def test_such_a_worker_ends_though_litserve_would_have_it_go_on(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, _ = make(repository)
    loop, api = InferenceLoop(), SimpleNamespace(worker=worker)
    process = multiprocessing.get_context("fork").Process(target=loop.run, args=(api,))
    monkeypatch.setenv("LITSERVE_WORKER_ID", "0")
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == 1
