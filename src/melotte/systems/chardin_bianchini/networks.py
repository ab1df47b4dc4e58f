"""pi-DOC's two networks side by side: a map of mass, and age and distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from melotte.networks.encoder_decoder import EncoderDecoder
from melotte.networks.point import SMALLEST_LOG_SCALE, PointPosterior
from melotte.networks.pooling_cnn import PoolingCNN
from melotte.systems.chardin_bianchini.settings import PiDocSettings

FIRST_LOG_SCALE = -1.5
BLOCKS = 10
"""Of the predicted map along each axis, whose means the domain check watches."""


class PiDocNetwork(nn.Module):
    """The encoder-decoder (Sect. 3.1.1) and the network of age and distance (Sect. 3.1.2).

    They share nothing but the input.

    Parameters
    ----------
    settings : PiDocSettings
    size : int, px
        Side of the maps.
    ends : Tensor, shape (2, n_parameters)
        Ends of the parameters' ranges.
    mean, deviation : sequence of float
        Of age and distance over training mocks.
    """

    ends: Tensor

    def __init__(
        self,
        settings: PiDocSettings,
        size: int,
        ends: Tensor,
        mean: list[float],
        deviation: list[float],
    ) -> None:
        super().__init__()
        self.encoder_decoder = EncoderDecoder(widths=settings.widths, dropout=settings.dropout)
        self.regression = PoolingCNN(
            (size, size),
            mean,
            deviation,
            widths=settings.regression_widths,
            dropout=settings.dropout,
        )
        self.register_buffer("ends", ends, persistent=False)
        self.log_scale = nn.Parameter(torch.full((ends.shape[1],), FIRST_LOG_SCALE))

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of a batch.

        Parameters
        ----------
        inputs : mapping
            ``maps`` (batch, 1, size, size), prepared.

        Returns
        -------
        dict
            ``mass_map`` (batch, 1, size, size): log10(Msun/px); ``estimate`` (batch, 2): age and
            distance, Gyr and kpc, which may leave the parameters' ranges, and ``deviation``
            (batch, 2): of the training mocks; ``posterior``: point posterior about the estimates
            clamped to the ranges, with one residual scale a parameter; ``embedding``
            (batch, 102): means of the predicted map in blocks, and standardised estimates.
        """
        maps = inputs["maps"]
        predicted = self.encoder_decoder(maps).float()
        estimate = self.regression(maps).float()
        low, high = self.ends
        restored = self.regression.restored(estimate)
        place = ((restored - low) / (high - low)).clamp(0, 1)
        scale = self.log_scale.clamp(min=SMALLEST_LOG_SCALE).exp().expand_as(place)
        blocks = functional.adaptive_avg_pool2d(predicted, BLOCKS).flatten(1)
        return {
            "posterior": PointPosterior(place.detach(), scale, "mse"),
            "estimate": restored,
            "deviation": self.regression.deviation.expand_as(restored),
            "mass_map": predicted,
            "embedding": torch.cat([blocks, estimate], 1),
        }
