"""Deep residual networks for ImageNet, and the plain networks that they are compared with.

He et al., "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385, table 1. Modules are
named and ordered as torchvision's, so that state dicts load both ways.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

_BlockBuilder = Callable[[int, int, int], nn.Module]  # channels in, channels out, stride


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps height and width at stride 1; batch norm, which follows, has the bias."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class ShortcutB(nn.Sequential):
    """The paper's option B, where shapes differ: a learned projection by 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def choose_shortcut(shortcut: _BlockBuilder, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the identity where a block keeps its input's shape, else a shortcut of the given kind."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return shortcut(in_channels, out_channels, stride)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions, [n, in_channels, h, w] to [n, out_channels, h / stride, w / stride]; no shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def stack(self, x: Tensor) -> Tensor:
        """Return the stacked layers' output before the last ReLU: F(x) in the paper's equation 1."""
        x = F.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x))."""
        return F.relu(self.stack(x))


class BasicBlock(PlainBlock):
    """The same two convolutions with a shortcut past them (figure 5, left)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: _BlockBuilder = ShortcutB) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.downsample = choose_shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut(x))."""
        return F.relu(self.stack(x) + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut past them, a quarter as wide inside (figure 5, right)."""

    # The stride is on the 3x3 convolution, as in torchvision ("v1.5"), where the paper puts it on the first 1x1:
    # about 0.5 points better in top-1, https://catalog.ngc.nvidia.com/orgs/nvidia/resources/resnet_50_v1_5_for_pytorch.
    # Weights of one variant load into the other without an error and lose accuracy.

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        width = out_channels // 4
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = choose_shortcut(ShortcutB, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut(x))."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.downsample(x))


def stage(block: _BlockBuilder, in_channels: int, out_channels: int, *, stride: int, blocks: int) -> nn.Sequential:
    """Return that many blocks in a row; the first changes the shape, the others keep it."""
    first = block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """Float [n, in_channels, h, w], 224 x 224 in the paper, to logits [n, classes].

    `channels` come out of the first stage.
    """

    def __init__(
        self, block: _BlockBuilder, channels: int, blocks: Sequence[int], classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, 64, channels, stride=1, blocks=blocks[0])
        self.layer2 = stage(block, channels, 2 * channels, stride=2, blocks=blocks[1])
        self.layer3 = stage(block, 2 * channels, 4 * channels, stride=2, blocks=blocks[2])
        self.layer4 = stage(block, 4 * channels, 8 * channels, stride=2, blocks=blocks[3])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al., https://arxiv.org/abs/1502.01852, equation 14
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of x [n, in_channels, h, w]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.maxpool(x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = self.avgpool(x)
        logits: Tensor = self.fc(x.flatten(1))
        return logits


# Table 1: depth -> blocks of the four stages
BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(depth: int, classes: int = 1000, in_channels: int = 3) -> ResNet:
    """Return ResNet-18, 34, 50, 101 or 152."""
    if depth in BASIC:
        return ResNet(BasicBlock, 64, BASIC[depth], classes, in_channels)
    return ResNet(Bottleneck, 256, BOTTLENECK[depth], classes, in_channels)


def plain(depth: int, classes: int = 1000, in_channels: int = 3) -> ResNet:
    """Return the plain network of depth 18 or 34: the same stack without shortcuts."""
    return ResNet(PlainBlock, 64, BASIC[depth], classes, in_channels)
