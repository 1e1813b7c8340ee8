"""A version is tried in a process of its own, and whatever happens there is a reason."""

import os
import signal
from pathlib import Path

import pytest

from models.artifact.artifact import read_artifact
from models.artifact.metadata import ArtifactError
from service.worker import trial
from service.worker.warmup import LoadOptions
from tests.artifacts import make_artifact

LOAD = LoadOptions("auto", "auto", False, 1, {})
PATIENCE_S = 60.0


def test_a_sound_version_passes(tmp_path: Path) -> None:
    trial.try_version(read_artifact(make_artifact(tmp_path, "plain")), "cpu", LOAD, PATIENCE_S)


def test_golden_examples_that_differ_are_told(tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(tmp_path, "plain", golden_error=1.0))
    with pytest.raises(ArtifactError, match="logits differ"):
        trial.try_version(artifact, "cpu", LOAD, PATIENCE_S)


def test_one_that_takes_too_long_is_told(tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(tmp_path, "plain"))
    with pytest.raises(ArtifactError, match="did not load within 0 s"):
        trial.try_version(artifact, "cpu", LOAD, 0.0)


def test_the_end_of_the_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = read_artifact(make_artifact(tmp_path, "plain"))
    monkeypatch.setattr(trial, "load_proved", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ArtifactError, match="ended with -9"):
        trial.try_version(artifact, "cpu", LOAD, PATIENCE_S)
