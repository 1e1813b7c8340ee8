"""Experiments in miniature: a page that tells what was measured. What they find at full size is no test's business."""

import re
from dataclasses import replace

import pytest
import torch
from torch import Generator
from typer.testing import CliRunner

from training.cli import app
from training.data import ImageSet
from training.experiments.catalogue import Trained, experiments
from training.experiments.material import Material
from training.experiments.report import difference, spread

PNG = b"\x89PNG\r\n\x1a\n"
TRAINED = {name: each for name, each in experiments().items() if isinstance(each, Trained)}
CLASSES = ("dark", "bright")


def _images(count, channels, side):
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, channels, side, side), generator=Generator().manual_seed(0))
    return ImageSet((noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, CLASSES)


@pytest.mark.parametrize("name", TRAINED)
def test_every_network_is_trained_for_every_seed_and_told(name):
    experiment, told = TRAINED[name], []
    scale = replace(experiment.quick, images=32, test_images=16, epochs=1, seeds=(0, 1))
    side = experiment.side // scale.shrink
    train, test = (_images(count, experiment.channels, side) for count in (32, 16))
    report = experiment.run(Material(train, test, scale, told.append))
    assert len(report.rows) > 1
    assert {len(row) for row in report.rows} == {len(report.header)}
    assert all(re.search(r"\d|diverged", row[-1]) for row in report.rows)
    assert report.seen
    assert told
    assert report.picture.startswith(PNG)
    assert "32 training and 16 test images" in report.method


def test_the_page_of_the_bottleneck_counts_what_can_be_counted_by_hand(tmp_path):
    result = CliRunner().invoke(app, ["experiment", "bottleneck", "--output", str(tmp_path), "--threads", "1"])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "bottleneck.md").read_text()
    straight, narrowed = 5 * 5 * 192 * 32 + 32, (192 * 16 + 16) + (5 * 5 * 16 * 32 + 32)
    assert f"| {straight:,} | {narrowed:,} |" in page
    positions = 28 * 28
    assert f"| {positions * 5 * 5 * 192 * 32:,} | {positions * (192 * 16 + 5 * 5 * 16 * 32):,} |" in page
    assert "resnet-train experiment bottleneck" in page
    assert (tmp_path / "bottleneck.png").read_bytes().startswith(PNG)


def test_an_experiment_that_does_not_exist_is_told_beside_those_that_do(tmp_path):
    result = CliRunner().invoke(app, ["experiment", "cold-fusion", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert all(name in result.output for name in experiments())


def test_a_mean_is_told_with_its_deviation_and_a_difference_with_its_error():
    assert spread([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert spread([1.5]) == "1.50"
    assert spread([1.0, float("nan")]) == "diverged"
    assert difference([5.0, 7.0], [2.0, 2.0]) == "4.00 points (standard error 1.00) above"
    assert difference([1.0], [2.0]) == "1.00 points below"
