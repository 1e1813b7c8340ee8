"""A graph is compared with the network that it was exported from, and another one does not pass."""

import dataclasses
from pathlib import Path

import pytest

from models.engines.loader import load_engine
from training.data import sources
from training.errors import ExportError
from training.loop.checkpoint import read_checkpoint
from training.release.onnx_export import to_onnx
from training.release.parity import check_parity
from training.release.release import assemble, describe


def test_a_graph_of_other_weights_does_not_pass(digits: str, digits_checkpoint: Path):
    checkpoint = read_checkpoint(digits_checkpoint)
    pixels = sources.load(digits, Path(), "test").images[:100].permute(0, 2, 3, 1).contiguous().numpy()
    metadata = describe(
        architecture=checkpoint.architecture,
        arguments=checkpoint.arguments,
        labels=checkpoint.labels,
        preprocessing=checkpoint.preprocessing,
        metrics={},
        recipe={},
    )
    engine = load_engine(assemble("digits", 1, to_onnx(checkpoint.pixel_net(), (28, 28, 1)), metadata))
    assert check_parity(checkpoint.pixel_net(), engine, pixels) < 1e-4
    weights = dict(checkpoint.weights)

    weights["fc.bias"] = checkpoint.weights["fc.bias"] + 0.01
    with pytest.raises(ExportError, match=r"differ from PyTorch's by 0\.01"):
        check_parity(dataclasses.replace(checkpoint, weights=weights).pixel_net(), engine, pixels)

    weights["fc.bias"] = checkpoint.weights["fc.bias"] * float("nan")
    with pytest.raises(ExportError, match=r"logits are no finite numbers: its weights are damaged"):
        check_parity(dataclasses.replace(checkpoint, weights=weights).pixel_net(), engine, pixels)

    weights["fc.bias"] = checkpoint.weights["fc.bias"]
    weights["fc.weight"] = -checkpoint.weights["fc.weight"]
    with pytest.raises(ExportError, match=r"names \d+ of 100 images otherwise"):
        check_parity(dataclasses.replace(checkpoint, weights=weights).pixel_net(), engine, pixels)
