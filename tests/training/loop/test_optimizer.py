"""Which parameters move, and at which rate."""

from dataclasses import replace

import pytest

from models.networks import registry
from training.loop.optimizer import freeze_body, make_optimizer, moving_average
from training.loop.recipe import Recipe, load_recipe


@pytest.fixture
def recipe() -> Recipe:
    """At a rate of 0.1, weights alone decay."""
    recipe = load_recipe("resnet20-paper")
    return replace(recipe, optimizer=replace(recipe.optimizer, decay="weights"))


def _settings(network, recipe):
    """Rate and decay of each parameter that moves, by name."""
    groups = make_optimizer(network, recipe).param_groups
    found = {id(each): (group["lr"], group["weight_decay"]) for group in groups for each in group["params"]}
    return {name: found[id(each)] for name, each in network.named_parameters() if id(each) in found}


def test_head_learns_at_the_recipes_rate_and_the_body_at_its_part(recipe):
    settings = _settings(registry.build("resnet20"), recipe.fine_tuned("anything", 0.1, freeze=False))
    rates = {name: rate for name, (rate, _) in settings.items()}
    assert rates == {name: pytest.approx(0.1 if name.startswith("fc.") else 0.01) for name in rates}


@pytest.mark.parametrize("decay", ["weights", "all"])
def test_biases_and_normalisation_decay_only_if_all_do(recipe, decay):
    network = registry.build("resnet20")
    settings = _settings(network, replace(recipe, optimizer=replace(recipe.optimizer, decay=decay)))
    assert settings.keys() == dict(network.named_parameters()).keys()
    for name, (_, pull) in settings.items():
        is_weight = "conv" in name or name == "fc.weight"
        assert pull == (1e-4 if is_weight or decay == "all" else 0), name


def test_a_frozen_body_is_in_no_group(recipe):
    network = registry.build("resnet20")
    freeze_body(network)
    assert _settings(network, recipe).keys() == {"fc.weight", "fc.bias"}


def test_without_a_decay_nothing_is_averaged():
    assert moving_average(registry.build("mnist-residual"), None) is None
