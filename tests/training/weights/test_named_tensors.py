"""Names by the state dicts that PyTorch itself makes of the same networks."""

import argparse
import io

import torch
from torch import nn

from training.weights.named_tensors import named_tensors
from training.weights.stand_ins import load_inert


def loaded(content: object) -> object:
    torch.save(content, stream := io.BytesIO())
    return load_inert(stream.getvalue())[0]


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 2)))


def test_tensors_are_found_where_they_are_nested():
    tensor = torch.ones(1)
    content = {
        "a": {"b.weight": tensor},
        "lists": [torch.zeros(1), (torch.zeros(2),)],
        "epoch": 3,
        7: {"x": torch.ones(2)},
    }
    found = named_tensors(content).tensors
    assert list(found) == ["a/b.weight", "lists/0", "lists/1/0", "7/x"]
    assert found["a/b.weight"] is tensor


def test_a_pickled_network_has_the_names_of_its_state_dict():
    source = network()
    found = named_tensors(loaded({"model": source})).tensors
    assert {name.removeprefix("model.") for name in found} == source.state_dict().keys()
    assert torch.equal(found["model.2.0.weight"], source.state_dict()["2.0.weight"])
    assert named_tensors(loaded(source)).tensors.keys() == source.state_dict().keys()


def test_what_a_file_calls_its_network_is_found():
    content = {"arch": "resnet50", "args": argparse.Namespace(model="resnetaa50", lr=0.1), "note": "resnet18"}
    assert named_tensors(loaded(content)).networks == ("resnet50", "resnetaa50")


def test_what_holds_itself_ends():
    content: dict[str, object] = {"weight": torch.ones(1)}
    content["again"] = content
    wide = content
    for _ in range(60):  # each level holds the one below twice: told one by one they would be 2 ** 60
        wide = {"a": wide, "b": wide}
    assert len(named_tensors(wide).tensors) == 1
