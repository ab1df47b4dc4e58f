"""Residual networks of bottleneck blocks: images to features.

References
----------
He, Zhang, Ren & Sun 2016, CVPR, 770: the blocks, with batch normalisation behind each convolution.
He, Zhang, Ren & Sun 2015, ICCV, 1026, Eq. 10: the first weights.
Bialopetravičius et al. 2019, A&A 621, A103, Fig. 4: a first convolution of stride 1 and narrower
blocks, for small images of little signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from melotte.errors import MelotteValueError


@dataclass(frozen=True)
class Stage:
    """Blocks of one width.

    Parameters
    ----------
    inner : int
        Channels of the 3 by 3 convolutions.
    outer : int
        Channels that leave each block.
    blocks : int
    stride : int
        Of the first block.
    """

    inner: int
    outer: int
    blocks: int
    stride: int


STEM = 64
STAGES = (Stage(64, 128, 3, 1), Stage(64, 256, 4, 2), Stage(128, 512, 6, 2), Stage(256, 1024, 3, 2))
"""conv2_x to conv5_x of Bialopetravičius et al. 2019, Fig. 4: 48 convolutions and their shortcuts;
with the first one and a dense layer behind them, ResNet-50."""

IMAGES_AT_ONCE = 16
"""In evaluation on a CPU: activations of more fall out of its caches between two layers."""


class Bottleneck(nn.Module):
    """Convolutions of 1, 3 and 1 pixels, added to a shortcut.

    The shortcut is a projection where size or channels change, as in He et al. 2016 (option B);
    the first convolution then has the stride.

    Parameters
    ----------
    n_in, inner, outer : int
    stride : int
    """

    def __init__(self, n_in: int, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.reduce, self.reduce_norm = _convolution(n_in, inner, 1, stride)
        self.middle, self.middle_norm = _convolution(inner, inner, 3)
        self.expand, self.expand_norm = _convolution(inner, outer, 1)
        self.shortcut = None
        if stride != 1 or n_in != outer:
            self.shortcut = nn.Sequential(*_convolution(n_in, outer, 1, stride))

    def forward(self, images: Tensor) -> Tensor:
        """Activations (batch, outer, rows/stride, columns/stride)."""
        hidden = functional.relu(self.reduce_norm(self.reduce(images)), inplace=True)
        hidden = functional.relu(self.middle_norm(self.middle(hidden)), inplace=True)
        hidden = self.expand_norm(self.expand(hidden))
        hidden += images if self.shortcut is None else self.shortcut(images)
        return functional.relu(hidden, inplace=True)


class ResidualEncoder(nn.Module):
    """First convolution of 7 by 7 pixels, maximum pooling, stages of blocks, global average.

    Weights and activations are laid out with channels last, which is what convolutions on CPUs
    and tensor cores want; results do not depend on it.

    Parameters
    ----------
    n_bands : int, > 0
    stem : int, > 0
        Channels of the first convolution.
    stages : sequence of Stage

    Raises
    ------
    MelotteValueError
        When there is no band or no stage.
    """

    def __init__(self, n_bands: int, stem: int = STEM, stages: Sequence[Stage] = STAGES) -> None:
        super().__init__()
        if n_bands < 1 or not stages:
            raise MelotteValueError(
                f"a residual encoder needs a band and a stage; found {n_bands} bands, "
                f"{len(stages)} stages"
            )
        self.n_bands = n_bands
        self.n_features = stages[-1].outer
        self.first, self.first_norm = _convolution(n_bands, stem, 7)
        built: list[nn.Module] = []
        n_in = stem
        for stage in stages:
            blocks: list[nn.Module] = []
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(Bottleneck(n_in, stage.inner, stage.outer, stride))
                n_in = stage.outer
            built.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(built)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor) -> Tensor:
        """Features of prepared images.

        Parameters
        ----------
        images : Tensor, shape (batch, n_bands, rows, columns)
            Finite; of any size from 16 by 16 pixels.

        Returns
        -------
        Tensor, shape (batch, n_features)
        """
        at_once = len(images)
        if not self.training and images.device.type == "cpu":
            at_once = IMAGES_AT_ONCE
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.cat([self._features(part) for part in images.split(max(1, at_once))])

    def _features(self, images: Tensor) -> Tensor:
        hidden = self.first_norm(self.first(images))
        # The largest of nine is the same before and after a ReLU, which is cheaper behind.
        hidden = functional.relu(functional.max_pool2d(hidden, 3, 2, 1), inplace=True)
        for stage in self.stages:
            hidden = stage(hidden)
        return hidden.mean((2, 3))


def _convolution(n_in: int, n_out: int, size: int, stride: int = 1) -> tuple[nn.Conv2d, nn.Module]:
    """A convolution without bias, which the normalisation behind it would take away."""
    convolution = nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution, nn.BatchNorm2d(n_out)
