"""Prefixes, layers and surroundings by names and shapes alone; what comes of them is `test_conversion`'s."""

import pytest
import torch
from torch import Tensor

from training.weights.candidates import find_candidates

WANTED = {
    "conv1.weight": (4, 3, 3, 3),
    "layer1.0.conv1.weight": (4, 4, 3, 3),
    "layer1.0.bn1.running_mean": (4,),
    "fc.weight": (10, 4),
    "fc.bias": (10,),
}


def state(prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{name}": torch.zeros(shape) for name, shape in WANTED.items()}


@pytest.mark.parametrize(
    ("prefix", "place"),
    [("", "the file's top"), ("module.", "module"), ("state_dict/model.net.", "state_dict.model.net"), ("0/", "0")],
)
def test_the_prefix_is_what_stands_before_the_networks_names(prefix: str, place: str):
    (candidate,) = find_candidates(state(prefix), WANTED)
    assert (candidate.prefix, candidate.place) == (prefix, place)
    assert candidate.weights.keys() == WANTED.keys()
    assert (candidate.head, candidate.left_out) == (f"{prefix}fc", ())


@pytest.mark.parametrize(
    ("prefix", "is_averaged"),
    [
        ("state_dict_ema/", True),
        ("ema_model.module.", True),
        ("swa/", True),
        ("averaged/", True),
        ("averaging_state/module.", True),
        ("schema/", False),
        ("layer_means.", False),
        ("model/", False),
    ],
)
def test_averages_are_known_by_their_prefix(prefix: str, is_averaged: bool):
    assert find_candidates(state(prefix), WANTED)[0].is_averaged is is_averaged


def test_what_belongs_to_others_is_left_out_and_what_is_between_stays():
    beside = {"model.extra.weight": torch.zeros(3), "loss.weight": torch.zeros(3), "model.total_ops": torch.zeros(1)}
    (candidate,) = find_candidates(state("model.") | beside, WANTED)
    assert candidate.left_out == ("loss.weight",)
    assert candidate.weights.keys() - WANTED.keys() == {"extra.weight"}


def test_each_network_has_its_own_surroundings():
    tensors = state("student.") | {key: value for key, value in state("teacher.").items() if "fc" not in key}
    student, teacher = find_candidates(tensors, WANTED)
    assert (student.head, student.left_out) == ("student.fc", ())
    assert (teacher.head, teacher.left_out) == (None, ())


def test_where_no_network_is_the_largest_state_dict_is_told():
    (candidate,) = find_candidates({"a/x": torch.zeros(1), "a/y": torch.zeros(1), "b/x": torch.zeros(1)}, WANTED)
    assert (candidate.place, list(candidate.weights)) == ("a", ["x", "y"])
