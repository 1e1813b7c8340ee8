"""What an API process publishes at each sign of life, and what that costs while nothing happens."""

import sys
from collections.abc import Callable
from types import FrameType

import numpy as np

from models.artifact.artifact import Artifact
from service.batching.loop_time import LoopTime
from service.batching.wait_estimate import WaitEstimate
from service.metrics import drift
from service.policy import DRIFT_WINDOW
from service.prediction.process_gauges import ProcessGauges
from tests.service.metrics.test_drift import Played
from tests.service.prediction.played import PlayedProcess, play


def called(call: Callable[[], object]) -> tuple[set[str], set[str]]:
    """The files of what is called in Python meanwhile, and the names of what is called in C."""
    files: set[str] = set()
    names: set[str] = set()

    def profile(frame: FrameType, event: str, function: object) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)
        elif event == "c_call":
            names.add(getattr(function, "__name__", ""))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files, names


def test_drift_is_computed_once_something_was_answered_by_whichever_process(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        played, shared_state = Played(), process.channels.shared_state
        estimate = WaitEstimate(0, shared_state, 1)
        gauges = ProcessGauges(process.services, played.metrics, shared_state, process.api.status, estimate)
        gauges.begin_models([played.model])

        def answer(api_process: int, number: int) -> None:
            played.answer(number, np.eye(10)[0], played.confidences)
            played.metrics.attach(api_process)
            played.metrics.image_bytes.observe(300.0)
            played.metrics.attach(0)

        def computes() -> bool:
            return drift.__file__ in called(gauges.publish)[0]

        assert [computes(), computes(), computes()] == [True, False, False]
        answer(api_process=0, number=30)
        assert [computes(), computes()] == [True, False]
        assert played.drifts() == {}
        answer(api_process=1, number=DRIFT_WINDOW)
        assert [computes(), computes()] == [True, False]
        assert played.drifts()["classes"] > 0.25

    play(scene, artifact)


def test_a_look_at_the_loops_time_opens_no_file() -> None:
    loop_time = LoopTime()
    assert called(loop_time)[1].isdisjoint({"open", "read_text"})
