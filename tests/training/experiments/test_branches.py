"""Inception nets without a branch."""

import pytest
import torch

from models.networks.mnist import InceptionNet
from tests.networks import count_parameters
from training.experiments.branches import WIDENINGS, FewerBranches, without


@pytest.mark.parametrize("left_out", WIDENINGS)
def test_a_net_without_a_branch_is_as_large_as_the_whole_and_takes_the_same_pictures(left_out):
    whole, rest = InceptionNet(), without(left_out, WIDENINGS[left_out], 10)
    sizes = [count_parameters(net) for net in (whole, rest)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    assert rest(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    for name in ("inception1", "inception2"):
        branches = {each for each, _ in rest.get_submodule(name).named_children()}
        assert branches == {each for each, _ in whole.get_submodule(name).named_children()} - {left_out}


@pytest.mark.parametrize("left_out", WIDENINGS)
def test_the_other_branches_are_those_of_the_whole_module_but_for_their_last_channels(left_out):
    """Shown by weights: an unwidened module gives what the whole one gives, less the branch."""
    torch.manual_seed(0)
    whole = InceptionNet().inception1
    rest = FewerBranches(10, left_out, 1)
    kept = [name for name, _ in rest.named_children()]
    for name in kept:
        for mine, theirs in zip(
            rest.get_submodule(name).parameters(), whole.get_submodule(name).parameters(), strict=True
        ):
            mine.data = theirs.data
    images = torch.randn(2, 10, 12, 12)
    expected = torch.cat([whole.get_submodule(name)(images) for name in kept], 1).relu()
    assert torch.equal(rest(images), expected)
    assert rest.out_channels() == expected.shape[1]
