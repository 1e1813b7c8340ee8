"""`resnet-train info` as it is printed."""

import pytest

from tests.training.command import Ended, resnet_train


def info(*words: str) -> Ended:
    return resnet_train("info", *words)


def test_info_prints_layers_and_totals_whole_on_80_columns():
    lines = [line.split() for line in info("resnet152").output.splitlines()]
    assert ["conv1", "Conv2d", "64×112×112", "9,408", "118,013,952"] in lines
    assert ["layer3.35.conv2", "Conv2d", "256×14×14", "589,824", "115,605,504"] in lines
    assert ["avgpool", "AdaptiveAvgPool2d", "2048×1×1"] in lines
    assert ["total", "60,192,808", "11,513,626,624"] in lines


def test_info_takes_classes_and_arguments():
    output = info("resnet20", "--classes", "100", "--arch-arg", "shortcut=B").output
    assert "layer2.0.downsample.0" in output
    assert f"{272_474 + 90 * 65:,}" in output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["resnet5"], "resnet50"),
        (["resnet20", "--arch-arg", "shortcut=C"], "A, B"),
        (["resnet20", "--arch-arg", "shortcut"], "key=value"),
        (["resnet20", "--classes", "0"], "classes"),
    ],
)
def test_info_refuses_with_a_hint(words: list[str], hint: str):
    result = info(*words)
    assert result.code == 2
    assert hint in result.errors
