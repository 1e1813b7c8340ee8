import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models.artifact.artifact import read_artifact
from models.artifact.metadata import ArtifactError
from models.engines import golden
from models.engines.loader import load_engine
from models.networks import registry
from tests.training.command import resnet_train
from training.commands.export import Export, export_checkpoint
from training.data import sources
from training.errors import DataError
from training.loop.checkpoint import read_checkpoint, write_checkpoint
from training.options import ExportOptions


def options_for(checkpoint: Path, repository: Path, data: str | None = None) -> ExportOptions:
    return ExportOptions(
        checkpoint=checkpoint,
        name="digits",
        version=2,
        repository=repository,
        data=data,
        data_root=repository,
        split="test",
    )


@pytest.fixture(scope="module")
def export(digits_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export_checkpoint(options_for(digits_checkpoint, tmp_path_factory.mktemp("repository")))


def test_the_artifact_can_be_served(export: Export):
    artifact = read_artifact(export.directory)
    assert (artifact.name, artifact.version) == ("digits", 2)
    assert artifact.labels == tuple("0123456789")
    golden.verify(artifact, load_engine(artifact))


def test_it_names_real_digits_as_pytorch_does(export: Export, digits: str, digits_checkpoint: Path):
    checkpoint = read_checkpoint(digits_checkpoint)
    network = registry.build("mnist-residual")
    network.load_state_dict(checkpoint.weights)
    images = sources.load(digits, Path(), "test").images
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    mean, std = checkpoint.preprocessing.mean[0], checkpoint.preprocessing.std[0]
    with torch.inference_mode():
        expected = network((images / 255 - mean) / std).numpy()
    engine = load_engine(read_artifact(export.directory))
    for batch in (1, 2, 5, 32):
        logits = engine.run(pixels[:batch])
        np.testing.assert_allclose(logits, expected[:batch], rtol=0, atol=1e-4)
    logits = engine.run(pixels)
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


def test_the_proof_is_reported(export: Export):
    assert export.images >= 100
    assert 0 < export.difference < 1e-4
    assert f"{export.difference:.1e}" in export.report()
    assert f"accuracy {export.metrics['accuracy']:.4g}, " in export.report()
    assert re.search(r"standard_error 0\.0*[1-9]\d{0,3}\b", export.report())


def test_the_metadata_tells_where_the_model_comes_from(export: Export, digits: str, digits_checkpoint: Path):
    metadata, checkpoint = read_artifact(export.directory).metadata, read_checkpoint(digits_checkpoint)
    assert metadata.architecture == "mnist-residual"
    assert metadata.recipe == {"validation": 0.1, "epochs": 1, "data": digits}
    assert metadata.preprocessing == checkpoint.preprocessing
    assert metadata.tools["torch"] == torch.__version__.partition("+")[0]
    assert (metadata.metrics["data"], metadata.metrics["split"], metadata.metrics["images"]) == (
        digits,
        "test",
        1000,
    )
    assert metadata.metrics["accuracy"] > 0.8


def test_the_metadata_tells_what_was_answered_on_the_split(export: Export, digits: str):
    artifact = read_artifact(export.directory)
    pixels = sources.load(digits, Path(), "test").images.permute(0, 2, 3, 1).contiguous().numpy()
    logits = torch.from_numpy(load_engine(artifact).run(pixels))
    reference = artifact.metadata.reference
    assert reference is not None
    assert list(reference.class_counts) == torch.bincount(logits.argmax(1), minlength=10).tolist()
    certain = int((logits.softmax(1).max(1).values > 0.99).sum())
    assert sum(reference.confidence_counts[-2:]) == pytest.approx(certain, abs=1)


def test_the_weights_lie_beside_the_graph_under_the_registrys_keys(export: Export, digits_checkpoint: Path):
    weights = safetensors.torch.load_file(export.directory / "model.safetensors")
    network = registry.build("mnist-residual")
    network.load_state_dict(weights)
    for key, value in read_checkpoint(digits_checkpoint).weights.items():
        assert torch.equal(weights[key], value)


def test_a_version_is_never_overwritten(export: Export, digits_checkpoint: Path):
    before = (export.directory / "SHA256SUMS").read_bytes()
    with pytest.raises(ArtifactError, match="never overwritten"):
        export_checkpoint(options_for(digits_checkpoint, export.directory.parent.parent))
    assert (export.directory / "SHA256SUMS").read_bytes() == before


def test_without_its_data_a_digit_network_is_compared_on_other_digits(digits_checkpoint: Path, tmp_path: Path):
    path = tmp_path / "moved.pt"
    write_checkpoint(path, dataclasses.replace(read_checkpoint(digits_checkpoint), data="/no/longer/there"))
    export = export_checkpoint(options_for(path, tmp_path))
    assert export.images >= 100
    assert export.metrics == read_checkpoint(digits_checkpoint).metrics  # not measured on digits it may know


def test_data_that_was_asked_for_must_be_there(digits_checkpoint: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no data '/not/there'"):
        export_checkpoint(options_for(digits_checkpoint, tmp_path, data="/not/there"))
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_what_it_wrote(digits_checkpoint: Path, tmp_path: Path):
    command = ("export", digits_checkpoint, "--name", "digits", "--repository", tmp_path)
    first, second = (resnet_train(*command) for _ in range(2))
    assert first.code == 0, first.errors
    assert str(tmp_path / "digits" / "1") in first.output
    assert second.code == 1
    assert "error: " in second.errors
    assert "never overwritten" in second.errors


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", json.dumps({"a": 1}).encode()])
def test_what_is_no_checkpoint_is_told(tmp_path: Path, content: bytes):
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    result = resnet_train("export", path, "--name", "digits", "--repository", tmp_path)
    assert result.code == 1
    assert f"error: {path} is not a checkpoint" in result.errors


def test_a_version_that_is_there_and_a_missing_test_split_are_told_before_the_work(
    digits_checkpoint: Path, export: Export, tmp_path: Path
):
    words = ["export", digits_checkpoint, "--name", "digits"]
    taken = resnet_train(*words, "--version", 2, "--repository", export.directory.parent.parent)
    missing = resnet_train(*words, "--repository", tmp_path, "--data", tmp_path / "nothing")
    for ended, told in ((taken, "is never overwritten; choose a higher version with --version"), (missing, "no data")):
        assert ended.code == 1
        assert told in ended.errors
        assert "exporting" not in ended.errors
