"""A network with weights of a checkpoint, of a released model, or of other people."""

import pytest
import torch

from models.networks import registry
from tests.networks import preprocessing_for
from training.errors import WeightsError
from training.loop.trained_network import TrainedNetwork, build_network

LABELS = tuple("abcdefg")


@pytest.fixture(scope="module")
def trained() -> TrainedNetwork:
    weights = registry.build("resnet20", classes=7, shortcut="B").state_dict()
    return TrainedNetwork("resnet20", {"shortcut": "B"}, LABELS, preprocessing_for("resnet20"), weights)


def test_the_same_labels_keep_all_weights(trained):
    rebuilt = trained.network(LABELS).state_dict()
    assert rebuilt.keys() == trained.weights.keys()
    assert all(torch.equal(rebuilt[name], value) for name, value in trained.weights.items())


@pytest.mark.parametrize("labels", [("cat", "dog"), tuple(reversed(LABELS))])
def test_other_labels_get_a_new_last_layer_and_keep_the_rest(trained, labels):
    network = trained.network(labels)
    assert network.fc.weight.shape == (len(labels), 64)
    assert not torch.equal(network.fc.weight[0], trained.weights["fc.weight"][0])
    for name, value in network.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, trained.weights[name]), name


def test_pixels_go_in_and_normalisation_comes_first(trained):
    pixels = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = trained.network(LABELS).eval()
    with torch.inference_mode():
        expected = network(trained.normalization(pixels.permute(0, 3, 1, 2).float()))
        torch.testing.assert_close(trained.pixel_net()(pixels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["resnet32", "resnet21"])
def test_weights_of_another_network_are_told(trained, architecture):
    with pytest.raises(WeightsError, match=f"the weights are not a {architecture}'s"):
        build_network(architecture, trained.arguments, 7, trained.weights)


@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf")])
def test_variances_that_cannot_be_are_named(trained, value):
    """An infinite one makes a constant of its channel, without a number that would show it in the answers."""
    name = "layer1.0.bn2.running_var"
    weights = {**trained.weights, name: trained.weights[name].index_fill(0, torch.tensor([2]), value)}
    with pytest.raises(WeightsError, match=rf"{name} has variances that are negative or not finite"):
        build_network(trained.architecture, trained.arguments, 7, weights)
