"""Numbers from maps by convolutions and maximum pooling, with standardised targets.

The network that predicts age and distance in pi-DOC. Published are four convolutional and
max-pooling layers, the flattening, one dense layer with linear activation, the dropout, and
targets of mean 0 and standard deviation 1. Its kernels, channels and activations stand in a figure
alone or nowhere, and are ours: kernels of 3 by 3 pixels that keep the size; 16, 32, 64, 128
channels; ReLU; pooling of 2 by 2; dropout behind each pooling; first weights as Keras has them.

References
----------
Chardin & Bianchini 2021, MNRAS 504, 5656, Sect. 3.1.2 and Fig. 2, after Gillet et al. 2019, MNRAS
484, 282.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.networks.encoder_decoder import PIDOC_DROPOUT, begin_as_keras
from melotte.networks.rare_dropout import RareDropout

WIDTHS = (16, 32, 64, 128)
"""Channels of the four convolutions; ours."""


class PoolingCNN(nn.Module):
    """Convolutions with maximum pooling, flattened into one dense linear layer.

    Parameters
    ----------
    size : (int, int)
        Rows and columns of every map: the dense layer has a weight for each place.
    mean, deviation : sequence of float
        Of each target over the training set, as many as there are outputs.
    n_channels : int, > 0
    widths : sequence of int
        Channels behind each convolution.
    dropout : float, in [0, 1)

    Raises
    ------
    MelotteValueError
        When the maps are too small to be pooled, or means and deviations do not pair up.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        size: tuple[int, int],
        mean: Sequence[float],
        deviation: Sequence[float],
        n_channels: int = 1,
        widths: Sequence[int] = WIDTHS,
        dropout: float = PIDOC_DROPOUT,
    ) -> None:
        super().__init__()
        pooled = [side // 2 ** len(widths) for side in size]
        if min(n_channels, *widths, *pooled) < 1:
            raise MelotteValueError(
                f"maps of {size[0]} x {size[1]} pixels and {n_channels} channels cannot be pooled "
                f"{len(widths)} times"
            )
        if not mean or len(mean) != len(deviation) or not all(one > 0 for one in deviation):
            raise MelotteValueError(
                f"targets need a mean and a deviation above 0 each; found {list(mean)} and "
                f"{list(deviation)}"
            )
        self.size = tuple(size)
        self.dropout = RareDropout(dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, 1, 1)
            for n_in, n_out in zip([n_channels, *widths[:-1]], widths, strict=True)
        )
        self.output = nn.Linear(widths[-1] * math.prod(pooled), len(mean))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))
        begin_as_keras(self)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, maps: Tensor) -> Tensor:
        """Standardised estimates.

        Parameters
        ----------
        maps : Tensor, shape (batch, n_channels, rows, columns)
            Finite, of the size that the network was built for.

        Returns
        -------
        Tensor, shape (batch, n_outputs)
            :meth:`restored` gives them in the targets' own units.

        Raises
        ------
        MelotteValueError
            When the maps have another size.
        """
        if tuple(maps.shape[-2:]) != self.size:
            raise MelotteValueError(
                f"maps have {maps.shape[-2]} x {maps.shape[-1]} pixels; this network takes "
                f"{self.size[0]} x {self.size[1]} alone"
            )
        state = maps.contiguous(memory_format=torch.channels_last)
        for convolution in self.convolutions:
            # The largest of four is the same before and after a ReLU, which is cheaper behind.
            state = functional.relu(functional.max_pool2d(convolution(state), 2), inplace=True)
            state = self.dropout(state)
        return self.output(state.flatten(1))

    def standardised(self, targets: Tensor) -> Tensor:
        """Targets (batch, n_outputs) with the training set's mean 0 and deviation 1."""
        return (targets - self.mean) / self.deviation

    def restored(self, estimates: Tensor) -> Tensor:
        """Standardised estimates (batch, n_outputs) in the targets' units."""
        return estimates * self.deviation + self.mean
