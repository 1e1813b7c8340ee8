"""Each experiment in miniature; what they find at full size is no test's business."""

import re
from dataclasses import replace

import pytest

from tests.documents import ROOT
from tests.training.experiments.pictures import bright_and_dark
from training.experiments.catalogue import TrainedExperiment, experiments
from training.experiments.setup import Scale, Setup
from training.options import ExperimentOptions

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


@pytest.mark.parametrize("name", ["inception", "branches"])
def test_the_full_time_of_nets_that_are_the_same_in_the_quick_form_follows_from_its_page(name):
    experiment, page = TRAINED[name], (ROOT / "docs" / "experiments" / f"{name}.md").read_text()
    quick, full = experiment.quick, experiment.full
    assert replace(quick, images=full.images, epochs=full.epochs, seeds=full.seeds) == full
    hours = float(re.search(r", in ([\d.]+) min, ", page)[1]) / 60
    expected = hours * trained_images(full) / trained_images(quick)
    assert float(experiment.full_time.removesuffix(" hours")) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", TRAINED)
def test_pages_and_help_have_the_estimate(name):
    time = TRAINED[name].full_time
    assert f"Without `--quick`: about {time} on two cores" in (ROOT / "docs" / "experiments" / f"{name}.md").read_text()
    help_text = " ".join(ExperimentOptions.__doc__.split())
    assert re.search(rf"\b{name} {re.escape(time.removesuffix(' hours'))}\b", help_text)


def trained_images(scale: Scale) -> int:
    return scale.images * scale.epochs * len(scale.seeds)
