"""A network behind its normalisation: what is exported to ONNX, and what the PyTorch engine runs."""

import torch
from torch import Tensor, nn

from models.images.preprocessing import Preprocessing


class PixelNet(nn.Module):
    """A network behind its normalisation: uint8 [n, height, width, channels] to logits [n, classes].

    With `torch.channels_last` pixels stay where they are; by default they become planes, one a channel.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        self.network, self.memory_format = network, memory_format
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64).mul(255)
        scale = 1 / torch.tensor(preprocessing.std, dtype=torch.float64).mul(255)
        self.register_buffer("mean", mean.float().view(-1, 1, 1))
        self.register_buffer("scale", scale.float().view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        # In the graph planes first: ONNX Runtime is slow at what it broadcasts over pixels of one to three values each,
        # and without contiguous() the exporter adds Shape, Range and Gather nodes, which a GPU session refuses.
        pixels = image.permute(0, 3, 1, 2).contiguous(memory_format=self.memory_format).float()
        logits: Tensor = self.network((pixels - self.mean) * self.scale)
        return logits
