"""timm's own networks are the oracle: a name that is taken for ours has our weights and computes as we do."""

import pytest
import timm
import torch

from models.networks import registry
from training.weights import variants


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("resnet18", "resnet18"),
        ("resnet50.a1_in1k", "resnet50"),
        ("timm/resnet50.tv2_in1k", "resnet50"),
        ("tv_resnet152", "resnet152"),
        ("gluon_resnet50_v1b", "resnet50"),
        ("swsl_resnet18", "resnet18"),
        ("resnet26", None),
        ("resnet18d", None),
        ("convnext_tiny", None),
    ],
)
def test_names_of_the_networks_that_we_have(name: str, ours: str | None):
    assert variants.registry_name(name) == ours


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_network_that_goes_by_our_name_computes_as_ours(name: str):
    ours = variants.registry_name(name)
    assert ours is not None
    theirs = timm.create_model(name).eval()
    network = registry.build_with_weights(ours, theirs.state_dict()).eval()
    pictures = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network(pictures), theirs(pictures), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnetaa50.a1h_in1k", "blurs"),
        ("resnetblur18", "blurs"),
        ("resnet18d.ra2_in1k", "another stem"),
        ("resnet50_gn", "group norm"),
        ("seresnet50", "other blocks"),
        ("resnext50_32x4d", "grouped"),
        ("wide_resnet50_2", "wider"),
        ("resnetv2_50", "before the convolutions"),
        ("resnetrs50", "another stem"),
        ("resnet50-silu", "activation"),
    ],
)
def test_how_others_differ_is_told(name: str, told: str):
    assert told in (variants.difference(name) or "")


@pytest.mark.parametrize("name", ["resnet18", "resnet50.a1_in1k", "my_model", "resnet50", "best"])
def test_of_other_names_nothing_is_said(name: str):
    assert variants.difference(name) is None
