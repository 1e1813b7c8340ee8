"""Two small networks for 28 x 28 grey digits: one residual, one of Inception modules."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _normalize(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


class ResidualBlock(nn.Module):
    """relu(x + conv3x3(relu(conv3x3(x)))) on [n, channels, h, w]; batch norm, if any, follows each conv."""

    def __init__(self, channels: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm)
        self.bn1 = _normalize(channels, batch_norm)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm)
        self.bn2 = _normalize(channels, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of x's shape."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(x + out)


class ResidualNet(nn.Module):
    """Float [n, 1, 28, 28] to logits [n, classes]; 41,514 parameters for ten classes without batch norm."""

    def __init__(self, classes: int = 10, batch_norm: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, bias=not batch_norm)
        self.bn1 = _normalize(16, batch_norm)
        self.maxpool = nn.MaxPool2d(2)
        self.block1 = ResidualBlock(16, batch_norm)
        self.conv2 = nn.Conv2d(16, 32, 5, bias=not batch_norm)
        self.bn2 = _normalize(32, batch_norm)
        self.block2 = ResidualBlock(32, batch_norm)
        self.fc = nn.Linear(32 * 4 * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of x [n, 1, 28, 28]."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.block1(x)
        x = self.maxpool(F.relu(self.bn2(self.conv2(x))))
        x = self.block2(x)
        logits: Tensor = self.fc(x.flatten(1))
        return logits


class InceptionA(nn.Module):
    """Four branches side by side, [n, channels, h, w] to [n, 88, h, w]; a ReLU after every convolution.

    Without the ReLUs a branch would be one linear convolution written as several. The modules of Szegedy et al. (CVPR
    2015, section 5) have them; a widely copied tutorial of this network leaves them out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch1x1 = nn.Conv2d(channels, 16, 1)
        self.branch5x5 = nn.Sequential(nn.Conv2d(channels, 16, 1), nn.ReLU(), nn.Conv2d(16, 24, 5, padding=2))
        self.branch3x3 = nn.Sequential(
            nn.Conv2d(channels, 16, 1),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=1),
        )
        self.branch_pool = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(channels, 24, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' outputs, concatenated to 16 + 24 + 24 + 24 channels."""
        branches = (self.branch1x1, self.branch5x5, self.branch3x3, self.branch_pool)
        return F.relu(torch.cat([branch(x) for branch in branches], dim=1))


class InceptionNet(nn.Module):
    """Float [n, 1, 28, 28] to logits [n, classes]; 97,298 parameters for ten classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.maxpool = nn.MaxPool2d(2)
        self.inception1 = InceptionA(10)
        self.conv2 = nn.Conv2d(88, 20, 5)
        self.inception2 = InceptionA(20)
        self.fc = nn.Linear(88 * 4 * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of x [n, 1, 28, 28]."""
        x = F.relu(self.maxpool(self.conv1(x)))
        x = self.inception1(x)
        x = F.relu(self.maxpool(self.conv2(x)))
        x = self.inception2(x)
        logits: Tensor = self.fc(x.flatten(1))
        return logits
