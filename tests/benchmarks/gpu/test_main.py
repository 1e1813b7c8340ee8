"""A rehearsal on the CPU: what the project has renamed since, and what a script misspells, fails here."""

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import ceilings, decoding, engines, serving, training
from benchmarks.gpu.__main__ import STEPS
from benchmarks.gpu.trip import Trip, take_step
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Trip:
    folder = tmp_path_factory.mktemp("trip")
    (folder / "results").mkdir()
    return Trip("cpu", True, folder, folder / "results", time.monotonic())


def rows(folder: Path, subject: str) -> list[dict[str, Any]]:
    """All that a step found, none of which may have failed."""
    document = json.loads((folder / f"gpu-{subject}.json").read_text())
    assert document["gpu"] == {} or document["gpu"]["name"]
    assert len(document["sources_sha256"]) == 16
    found = [row for section in document["results"].values() for row in section]
    assert [row["failed"] for row in found if "failed" in row] == []
    return found


def test_engines_have_their_share_of_what_the_machine_can_do(trip: Trip) -> None:
    ceilings.measure(trip)
    assert {row["what"] for row in rows(trip.output, "ceilings")} == {"copy", "bf16", "fp16", "tf32", "fp32"}
    engines.measure(trip)
    found = rows(trip.output, "engines")
    assert {row["backend"] for row in found} == {"onnxruntime fp32", "torch fp32", "torch bf16"}
    assert {row["batch"] for row in found} == {1, 2}
    assert all(row["images_per_s"] > 0 < row["roofline_share"] for row in found)


def test_decoding_is_counted_in_one_process_and_in_all(trip: Trip) -> None:
    decoding.measure(trip)
    assert all(row["per_s"] > 0 for row in rows(trip.output, "decoding"))


def test_photographs_are_served_beside_litserve(trip: Trip, require: Callable[[str], str]) -> None:
    require("wrk")
    serving.measure(trip)
    found = rows(trip.output, "serving")
    assert {row["label"] for row in found if "label" in row} == {"class 0"}  # the one that always wins
    assert len([row for row in found if "per_s" in row and row["per_s"] > 0]) == 2


def test_training_is_a_run_of_the_command(trip: Trip) -> None:
    training.measure(trip)
    (row,) = rows(trip.output, "training")
    assert row["images_per_s"] > 0


def test_the_command_runs_each_step_in_a_process_and_ends_it_at_its_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, "--quick", "--steps", "decoding"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "-- decoding: exit 0" in done.stdout) == (0, True), done.stdout + done.stderr
    assert rows(tmp_path, "decoding")
    done = subprocess.run(
        [*command, "--budget", "0", "--steps", "engines"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "-- engines: exit -15" in done.stdout) == (1, True), done.stdout + done.stderr
    assert {"ceilings", "engines", "decoding", "serving", "scaling", "training"} == STEPS.keys()


def _wait(trip: Trip) -> None:
    """A step that has started something."""
    try:
        (trip.work / "began").touch()
        time.sleep(60)
    finally:
        (trip.work / "ended").touch()


def test_a_step_that_is_ended_at_its_limit_ends_what_it_has_started(trip: Trip) -> None:
    process = multiprocessing.get_context("spawn").Process(target=take_step, args=(_wait, trip))
    process.start()
    while not (trip.work / "began").exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.terminate()
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    assert (trip.work / "ended").exists()
