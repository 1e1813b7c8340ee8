"""Residual networks for CIFAR's 32 x 32 pictures, with either kind of shortcut, and their plain twins.

He et al., "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385, section 4.2: a 3x3
convolution, three stages of 2n convolutions with 16, 32 and 64 channels, a linear classifier; depth 6n + 2.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from models.networks.resnet import BasicBlock, PlainBlock, ShortcutB, conv3x3, stage


class ShortcutA(nn.Module):
    """The paper's option A, where shapes differ: every stride-th pixel, and zeros for the new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, out_channels, h / stride, w / stride] of x [n, in_channels, h, w]."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))


DEPTHS = (20, 32, 44, 56, 110)  # table 6
SHORTCUTS = {"A": ShortcutA, "B": ShortcutB}


class CifarResNet(nn.Module):
    """Float [n, in_channels, 32, 32] to logits [n, classes], through three stages of `blocks` blocks.

    `width` is that of the first stage.
    """

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        blocks: int,
        classes: int,
        width: int,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(block, width, width, stride=1, blocks=blocks)
        self.layer2 = stage(block, width, 2 * width, stride=2, blocks=blocks)
        self.layer3 = stage(block, 2 * width, 4 * width, stride=2, blocks=blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):  # https://arxiv.org/abs/1502.01852, equation 10
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of x [n, in_channels, 32, 32]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.avgpool(x)
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def resnet(depth: int, classes: int = 10, shortcut: str = "A", width: int = 16, in_channels: int = 3) -> CifarResNet:
    """Return the ResNet of depth 6n + 2 (20, 32, 44, 56, 110 in the paper) with shortcuts "A" or "B"."""
    block = partial(BasicBlock, shortcut=SHORTCUTS[shortcut])
    return CifarResNet(block, _blocks(depth), classes, width, in_channels)


def plain(depth: int, classes: int = 10, width: int = 16, in_channels: int = 3) -> CifarResNet:
    """Return the plain network of depth 6n + 2: the same stack without shortcuts."""
    return CifarResNet(PlainBlock, _blocks(depth), classes, width, in_channels)


def _blocks(depth: int) -> int:
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}")
    return blocks
