"""CNN1D and CNN2D: two convolutions along velocity, then dense layers.

As Keras builds them: ReLU, weights drawn after Glorot & Bengio 2010, biases zero, a linear output
neuron on the scale of -1 to 1. Radius bins are channels, so that the kernels of CNN2D see all
radii at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melotte.networks.point import SMALLEST_LOG_SCALE, PointPosterior
from melotte.systems.ho2019.settings import ModelSettings

DENSE = (128, 64)
"""Neurons of the hidden layers."""
SCALE_RATE = 10.0
"""How much faster than a weight the logarithmic residual scale moves under Adam."""
FIRST_LOG_SCALE = -2.5
"""A residual of 0.25 dex."""
KERAS_EPSILON = 1e-7


@dataclass(frozen=True)
class Convolutions:
    """Filters and widths, in bins, of the two convolutions, and the pool behind them."""

    filters: tuple[int, int]
    widths: tuple[int, int]
    pool: int


CONVOLUTIONS = {
    "cnn1d": Convolutions((10, 5), (5, 3), 2),
    "cnn2d": Convolutions((24, 10), (5, 3), 4),
}


class DensityNetwork(nn.Module):
    """Either network, with a posterior around its estimate.

    Parameters
    ----------
    settings : ModelSettings
    bins : int
        Of the density, on each axis.
    """

    def __init__(self, settings: ModelSettings, bins: int) -> None:
        super().__init__()
        shape = CONVOLUTIONS[settings.network]
        pool = shape.pool if settings.pooling == "published" else 1
        n_in = 1 if settings.network == "cnn1d" else bins
        layers: list[nn.Module] = []
        for filters, width in zip(shape.filters, shape.widths, strict=True):
            layers += [nn.Conv1d(n_in, filters, width, padding="same"), nn.ReLU()]
            n_in = filters
        layers += [nn.MaxPool1d(pool)] * (pool > 1)
        layers += [nn.Dropout(settings.dropout), nn.Flatten()]
        n_in *= bins // pool
        for width in DENSE:
            layers += [nn.Linear(n_in, width), nn.ReLU()]
            n_in = width
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(n_in, 1)
        self.largest_norm = settings.largest_norm
        for layer in (*self.hidden, self.output):
            if isinstance(layer, nn.Conv1d | nn.Linear) and layer.bias is not None:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.slow_log_scale = nn.Parameter(torch.tensor([FIRST_LOG_SCALE / SCALE_RATE]))

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Estimate and posterior of a batch.

        Parameters
        ----------
        inputs : mapping
            ``density``: (batch, channels, bins), velocity last.

        Returns
        -------
        dict
            ``output`` (batch, 1): the output neuron, -1 and 1 at the ends of the mass scale, which
            it may leave; ``posterior``: a point posterior about it in the unit cube, clamped to
            that, with one residual scale; ``embedding``: the last hidden layer.
        """
        self.constrain()
        embedding = self.hidden(inputs["density"])
        output = self.output(embedding).float()
        scale = (SCALE_RATE * self.slow_log_scale).clamp(min=SMALLEST_LOG_SCALE).exp()
        place = ((output + 1) / 2).clamp(0, 1)
        posterior = PointPosterior(place, scale.expand_as(place), "mse")
        return {"posterior": posterior, "output": output, "embedding": embedding}

    @torch.no_grad()
    def constrain(self) -> None:
        """Shorten weights to the largest norm, all layers but the output.

        The norm of Keras's ``MaxNorm`` runs over the first axis of its kernels, which is the last
        of torch's: the weights into a neuron, and those of one channel and filter along velocity.
        Keras shortens after each step; here it is before the next use, which is the same.
        """
        for layer in self.hidden:
            if isinstance(layer, nn.Conv1d | nn.Linear):
                weight = layer.weight
                norm = weight.norm(dim=-1, keepdim=True)
                # Untouched weights keep their version, so that a second pass may precede backward.
                if bool((norm > self.largest_norm).any()):
                    weight.mul_(norm.clamp(max=self.largest_norm) / (norm + KERAS_EPSILON))


def published_scale(unit: Tensor) -> Tensor:
    """The unit interval on the scale of the output neuron, -1 to 1."""
    return 2 * unit - 1
