"""Against the way of torchvision: a tensor of fractions, normalised, then the network."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms.functional import normalize, to_tensor

from models.images.preprocessing import Preprocessing
from models.networks.pixel_net import PixelNet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_sees_what_torchvision_would_show_it(channels: int):
    mean, std = MEAN[:channels], STD[:channels]
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, channels), np.uint8)
    seen = PixelNet(nn.Identity(), Preprocessing.usual((5, 7, channels), 7, mean, std))(torch.from_numpy(images))
    expected = torch.stack([normalize(to_tensor(image), list(mean), list(std)) for image in images])
    torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)


def test_the_normalisation_is_no_parameter_and_goes_where_the_network_goes():
    network = PixelNet(nn.Linear(2, 2), Preprocessing.usual((5, 7, 3), 7, MEAN, STD))
    assert {name for name, _ in network.named_parameters()} == {"network.weight", "network.bias"}
    assert {buffer.device.type for buffer in network.to("meta").buffers()} == {"meta"}


@pytest.mark.parametrize(
    ("memory_format", "strides"),
    [(torch.contiguous_format, (35 * 3, 35, 7, 1)), (torch.channels_last, (35 * 3, 1, 7 * 3, 3))],
)
def test_pixels_become_planes_or_stay_where_they_are(memory_format: torch.memory_format, strides: tuple[int, ...]):
    spec = Preprocessing.usual((5, 7, 3), 7, MEAN, STD)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8))
    seen = PixelNet(nn.Identity(), spec, memory_format)(images)
    assert seen.stride() == strides
    torch.testing.assert_close(seen, PixelNet(nn.Identity(), spec)(images), rtol=0, atol=0)
