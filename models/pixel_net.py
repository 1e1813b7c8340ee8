"""A network behind its normalisation: what is exported to ONNX, and what the PyTorch engine runs."""

import torch
from torch import Tensor, nn

from models.artifact import Preprocessing


class PixelNet(nn.Module):
    """A network behind its normalisation: uint8 [n, height, width, channels] to logits [n, classes]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocessing.mean, dtype=torch.float64).mul(255).float())
        self.register_buffer("scale", 1 / torch.tensor(preprocessing.std, dtype=torch.float64).mul(255).float())

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        normalised = (image.float() - self.mean) * self.scale
        # Without contiguous() the exporter adds Shape, Range and Gather nodes, which a GPU session refuses.
        logits: Tensor = self.network(normalised.permute(0, 3, 1, 2).contiguous())
        return logits
