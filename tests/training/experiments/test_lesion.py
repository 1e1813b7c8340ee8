"""One block taken out of a network."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from tests.training.experiments.pictures import bright_and_dark
from training.experiments import lesion
from training.experiments.degradation import build
from training.experiments.lesion import removable, without
from training.experiments.setup import Setup


def test_a_removed_block_hands_on_what_it_gets_and_all_else_stays():
    network, images = build("residual", 20, 4, 2).eval(), torch.randn(2, 3, 16, 16)
    before = network(images)
    assert removable(network) == [
        *(("layer1", place) for place in (0, 1, 2)),
        *((stage, place) for stage in ("layer2", "layer3") for place in (1, 2)),
    ]
    x = network.layer1(F.relu(network.bn1(network.conv1(images))))
    x = network.layer3(network.layer2[2](network.layer2[0](x)))
    assert torch.equal(without(network, "layer2", 1)(images), network.fc(x.mean((2, 3))))
    assert torch.equal(network(images), before)


def test_a_net_that_diverges_is_told_and_none_of_its_blocks_is_measured(monkeypatch):
    monkeypatch.setattr(lesion, "_LEARNING_RATE", 1e30)
    scale = replace(lesion.QUICK, epochs=2, seeds=(0,), depths=(8,), width=4)
    report = lesion.run(Setup(bright_and_dark(512, 3, 16), bright_and_dark(8, 3, 16), scale, lambda _: None))
    assert all(set(row[1:]) == {"diverged"} for row in report.rows)
    assert all("diverged" in sentence for sentence in report.seen)


def test_the_picture_names_what_the_table_names():
    scale = replace(lesion.QUICK, epochs=1, seeds=(0,), depths=(8,), width=4)
    report = lesion.run(Setup(bright_and_dark(256, 3, 16), bright_and_dark(8, 3, 16), scale, lambda _: None))
    (axes,) = report.picture.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [row[0] for row in report.rows]
