"""What a worker process does: load models, prove each, then answer batches until it is ended.

Where some of its models are far quicker than others, a second thread runs quick images while the first runs slow ones:
the express thread, with a pipe of its own. The system divides the core between the two, and prefers that one. The
supervisor's commands to load or unload a model come through the pipe of the batches. Nothing here is of LitServe, which
`pools.litserve` puts around it.
"""

import gc
import os
import time
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Thread

import structlog

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.engines.engine import EngineError
from models.machine.memory import memory_since, own_memory, trim_memory
from service.batch_costs import quick_models
from service.ipc.channels import Channels
from service.ipc.messages import ModelCommand
from service.ipc.reports import CandidateReport, ModelReport, WorkerReport
from service.policy import QUICK_SLICE_NS, SLOW_SLICE_NS, USUAL_NICE
from service.process.core_slice import set_core_slice
from service.process.shortage import in_words, is_shortage
from service.worker.batch_runner import BatchRunner
from service.worker.warmup import LoadedModel, LoadOptions, load_model

log = structlog.get_logger()


class Worker:
    """One worker process."""

    def __init__(
        self,
        index: int,
        device: str,
        artifacts: Sequence[Artifact],
        load: LoadOptions,
        channels: Channels,
        first: int = 0,
        wanted: Container[int] | None = None,
    ) -> None:
        """`index` is its seat, `first` the number of the first model.

        Only those that are `wanted` are loaded now, the others when the supervisor says so; None: all, once.
        """
        self._index, self._channels = index, channels
        self._device, self._load_options = device, load
        self._artifacts, self._first = artifacts, first
        self._shared_state = channels.shared_state
        self._epoch = int(self._shared_state.epochs[index])
        self._models: dict[int, LoadedModel] = {}
        self.batches = BatchRunner(index, self._epoch, channels, self._models, self._obey)
        numbers = range(first, first + len(artifacts))
        for model in numbers:
            if wanted is None or model in wanted:
                report = self._load(model)
                if wanted is None and model == numbers[-1]:
                    self._begin_express_thread()  # before the last report, upon which batches come
                self._report(report)
        if wanted is None:
            self._artifacts = ()

    @property
    def number(self) -> int:
        """What the log calls it."""
        return self._channels.worker_of(self._index)

    def _begin_express_thread(self) -> None:
        """Start it if it has something to do; a GPU runs one batch after the other in any case."""
        quick = quick_models({number: model.image_ns for number, model in self._models.items()})
        if quick and self._device == "cpu":
            _, row = self._shared_state.rows_of(self._index)
            Thread(target=self._serve_express, args=(row,), name="express", daemon=True).start()
            with suppress(OSError):  # where that is forbidden, quick images wait for the scheduler
                os.nice(USUAL_NICE)  # on Linux of this thread alone
            set_core_slice(SLOW_SLICE_NS)
            self._shared_state.epochs[row] = self._epoch
            names = sorted({self._artifacts[number - self._first].name for number in quick})
            log.info("express thread started", worker=self.number, models=names)

    def _serve_express(self, row: int) -> None:
        set_core_slice(QUICK_SLICE_NS)
        try:
            BatchRunner(row, self._epoch, self._channels, self._models, self._obey).serve()
        except Exception:
            log.exception("worker failed", worker=self.number, thread="express")
        finally:
            os._exit(1)  # the whole worker, as where its first thread fails

    def _report(self, report: ModelReport) -> None:
        self._channels.reports[self._index].write(WorkerReport(self._epoch, report).to_line())

    def _load(self, index: int) -> ModelReport:
        """Load a model, and measure what it takes: without what loading it took."""
        began, memory = time.monotonic(), own_memory()
        self._shared_state.loading[self._index] = index + 1
        report = self._try_to_load(index)
        self._shared_state.loading[self._index] = 0
        if report.state == "failed":
            return report
        load_seconds = time.monotonic() - began
        return replace(report, load_seconds=load_seconds, memory_bytes=memory_since(memory))

    def _try_to_load(self, index: int) -> ModelReport:
        device, load = self._device, self._load_options
        try:
            artifact = self._artifacts[index - self._first]
            model, choice = load_model(artifact, device, load), load.choice(artifact, device)
        except (ArtifactError, EngineError) as error:
            return ModelReport(index, "failed", reason=str(error))
        self._models[index] = model
        engine = model.engine
        return ModelReport(
            index,
            "ready",
            engine=engine.name,
            device=engine.device,
            precision=engine.precision,
            max_batch_size=model.max_batch_size,
            most_images=model.most_images,
            batch_latency_ms=tuple((size, ns / 1e6) for size, ns in model.latency_ns.items()),
            why=choice.why,
            candidates=tuple(
                CandidateReport(str(each.candidate), each.images_per_second, each.refused) for each in choice.attempts
            ),
        )

    def _obey(self, command: ModelCommand) -> None:
        """Load or unload a model, and report; the supervisor sees for how long that may take."""
        shared_state = self._shared_state
        shared_state.limit_ns[self._index] = command.seconds * 1_000_000_000
        shared_state.began_ns[self._index] = time.monotonic_ns()
        try:
            number = command.model
            report = self._load_if_there_is_room(number) if command.load else self._unload(number)
        finally:
            shared_state.began_ns[self._index] = shared_state.loads_ns[self._index][-1] = 0
        self._report(report)  # whereupon there may be another command, with a mark of its own

    def _load_if_there_is_room(self, index: int) -> ModelReport:
        """A shortage leaves the others loaded; at the start it ends the worker, which is tried again."""
        try:
            return self._load(index)
        except Exception as error:
            if not is_shortage(error):
                raise
            reason = f"there is no room for it: {in_words(error)}"
        self._shared_state.loading[self._index] = 0
        self._unload(index)  # it may be loaded, and only not measured
        return ModelReport(index, "failed", reason=reason)

    def _unload(self, index: int) -> ModelReport:
        self._models.pop(index, None)
        gc.collect()
        trim_memory()
        return ModelReport(index, "unloaded")
