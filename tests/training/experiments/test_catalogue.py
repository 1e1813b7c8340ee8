"""Each experiment in miniature; what they find at full size is no test's business."""

import re
from dataclasses import replace

import pytest

from tests.documents import ROOT
from tests.training.experiments.pictures import bright_and_dark
from training.experiments.catalogue import TrainedExperiment, experiments
from training.experiments.setup import Setup

TRAINED = {name: each for name, each in experiments().items() if isinstance(each, TrainedExperiment)}


@pytest.mark.parametrize("name", TRAINED)
def test_every_network_is_trained_for_every_seed_and_told(name):
    experiment, told = TRAINED[name], []
    scale = replace(experiment.quick, images=32, test_images=16, epochs=1, seeds=(0, 1))
    side = experiment.side // scale.shrink
    train, test = (bright_and_dark(count, experiment.channels, side) for count in (32, 16))
    report = experiment.run(Setup(train, test, scale, told.append))
    assert len(report.rows) > 1
    assert {len(row) for row in report.rows} == {len(report.header)}
    assert all(re.search(r"\d", row[-1]) for row in report.rows)
    assert report.seen
    assert told
    for axes in report.picture.axes:
        assert axes.get_lines()
        assert all(len(line.get_xdata()) for line in axes.get_lines())
    assert "32 training and 16 test images" in report.method
    assert f"{name}.png)\n\n{report.caption}\n" in (ROOT / "docs" / "experiments" / f"{name}.md").read_text()
