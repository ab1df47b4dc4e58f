"""The two papers' networks: ResNet-50 variants with linear outputs and with softmax grids.

Choices where the papers are silent: a ReLU behind the dense layer of 1024 neurons; dropout behind
the average over rotations, one mask for all four; weights drawn after He et al. 2015; the first
biases of Paper I's output neurons at the middle of their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.networks.independent import IndependentPosterior
from melotte.networks.point import SMALLEST_LOG_SCALE, PointPosterior
from melotte.networks.residual import STAGES, STEM, ResidualEncoder, Stage
from melotte.parameters import Parameter
from melotte.systems.bialopetravicius.activation_maps import ActivationMap
from melotte.systems.bialopetravicius.settings import (
    N_ROTATIONS,
    PaperOneSettings,
    PaperTwoSettings,
)

N_HIDDEN = 1024
"""Neurons of the dense layer, fc1024."""
FIRST_LOG_SCALE = -1.5


class PaperOneNetwork(nn.Module):
    """Age, mass and size by regression, from four rotations of an image.

    Parameters
    ----------
    n_bands : int
    settings : PaperOneSettings, optional
    stem, stages
        Of the encoder; the paper's by default.

    References
    ----------
    Bialopetravičius et al. 2019, Sect. 4.1 and Figs. 3-4; Dieleman et al. 2015 for the rotations.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        n_bands: int = 3,
        settings: PaperOneSettings | None = None,
        stem: int = STEM,
        stages: Sequence[Stage] = STAGES,
    ) -> None:
        super().__init__()
        settings = settings or PaperOneSettings()
        parameters = settings.parameters()
        self.encoder = ResidualEncoder(n_bands, stem, stages)
        self.hidden = nn.Linear(self.encoder.n_features, N_HIDDEN)
        self.dropout = nn.Dropout(settings.dropout)
        self.rotations = settings.rotations
        self.output = nn.Linear(N_HIDDEN, len(parameters))
        low, high = published_ends(parameters)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        _begin(self.hidden)
        nn.init.xavier_uniform_(self.output.weight)
        with torch.no_grad():
            self.output.bias.copy_((low + high) / 2)
        self.log_scale = nn.Parameter(torch.full((len(parameters),), FIRST_LOG_SCALE))

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Estimates of a batch.

        Parameters
        ----------
        inputs : mapping
            ``image``: (batch, n_bands, n, n), prepared, square.

        Returns
        -------
        dict
            ``estimate`` (batch, 3): the output neurons, log10 of yr, Msun and arcsec, which may
            leave the ranges; ``posterior``: a point posterior about the estimate clamped to the
            unit cube, with one residual scale a parameter; ``residual_posterior``: the same about
            the estimate without dropout, for the scales alone to learn from; ``embedding``
            (batch, 1024): the dense layer, averaged over rotations.
        """
        image = inputs["image"]
        rotations = self.rotations if self.training else N_ROTATIONS
        turned = torch.cat([_turned(image, first) for first in range(rotations)])
        activations = functional.relu(self.hidden(self.encoder(turned)))
        with torch.autocast(image.device.type, enabled=False):
            embedding = activations.float().unflatten(0, (rotations, len(image))).mean(0)
            estimate = self.output(self.dropout(embedding))
            settled = estimate
            if self.training and self.dropout.p > 0:
                # Without this the scales would be those of a network that lacks half its neurons.
                settled = self.output(embedding)
            return {
                "posterior": self._posterior(estimate),
                "residual_posterior": self._posterior(settled.detach()),
                "estimate": estimate,
                "embedding": embedding,
            }

    def _posterior(self, estimate: Tensor) -> PointPosterior:
        place = ((estimate - self.low) / (self.high - self.low)).clamp(0, 1)
        scale = self.log_scale.clamp(min=SMALLEST_LOG_SCALE).exp().expand_as(place)
        return PointPosterior(place, scale, "smooth_l1")


class PaperTwoNetwork(nn.Module):
    """A joint grid of age, A_V and mass, grids of size and visibility, and a class.

    Parameters
    ----------
    n_bands : int
    settings : PaperTwoSettings, optional
    stem, stages
        Of the encoder; the paper's by default.

    References
    ----------
    Bialopetravičius & Narbutis 2020, Sect. 3.1 and Figs. 5-7.
    """

    def __init__(
        self,
        n_bands: int = 3,
        settings: PaperTwoSettings | None = None,
        stem: int = STEM,
        stages: Sequence[Stage] = STAGES,
    ) -> None:
        super().__init__()
        self.settings = settings or PaperTwoSettings()
        self.encoder = ResidualEncoder(n_bands, stem, stages)
        self.hidden = nn.Linear(self.encoder.n_features, N_HIDDEN)
        self.joint = nn.Linear(N_HIDDEN, math.prod(self.settings.bins))
        self.radius = nn.Linear(N_HIDDEN, self.settings.radius_bins)
        self.presence = nn.Linear(N_HIDDEN, 2)
        self.visibility = nn.Linear(N_HIDDEN, self.settings.visibility_bins)
        _begin(self.hidden)
        for layer in (self.joint, self.radius, self.presence, self.visibility):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of a batch.

        Parameters
        ----------
        inputs : mapping
            ``image``: (batch, n_bands, n, n), prepared.

        Returns
        -------
        dict
            ``posterior`` over age, A_V, mass and size, with the activation maps of the first
            three and of the last as its ``groups``; ``class`` (batch,): the logit of a cluster's
            presence, the difference of the two neurons; ``visibility`` (batch,): unfolded, >= 0;
            ``visibility_map``: its activations over log10(1 + visibility); ``embedding``
            (batch, 1024).
        """
        image = inputs["image"]
        embedding = functional.relu(self.hidden(self.encoder(image)))
        with torch.autocast(image.device.type, enabled=False):
            embedding = embedding.float()
            settings = self.settings
            joint = torch.log_softmax(self.joint(embedding), -1).unflatten(-1, settings.bins)
            radius = torch.log_softmax(self.radius(embedding), -1)
            visibility = torch.log_softmax(self.visibility(embedding), -1)
            visibility_map = ActivationMap(visibility, settings.marginal_softness)
            neurons = self.presence(embedding)
            groups = (
                ActivationMap(joint, settings.softness),
                ActivationMap(radius, settings.marginal_softness),
            )
            return {
                "posterior": IndependentPosterior(groups),
                "class": neurons[:, 1] - neurons[:, 0],
                "visibility": self._unfolded(visibility_map),
                "visibility_map": visibility_map,
                "embedding": embedding,
            }

    @torch.no_grad()
    def _unfolded(self, visibility_map: ActivationMap) -> Tensor:
        low, high = self.settings.log_visibility
        return 10 ** (low + (high - low) * visibility_map.mode()[:, 0]) - 1


def published_ends(parameters: Sequence[Parameter]) -> tuple[Tensor, Tensor]:
    """Ends of the parameters' ranges, log10 where the scale is logarithmic; two of (n,).

    Raises
    ------
    MelotteValueError
        When a scale is neither linear nor logarithmic.
    """
    ends = []
    for parameter in parameters:
        if parameter.scale == "normal":
            raise MelotteValueError(
                f"parameter {parameter.name}: a regression on the published scale needs a linear "
                "or logarithmic one, found 'normal'"
            )
        log = parameter.scale == "log"
        ends.append([math.log10(end) if log else end for end in (parameter.low, parameter.high)])
    low, high = torch.tensor(ends).unbind(1)
    return low, high


def _turned(images: Tensor, first: int) -> Tensor:
    """Images by right angles: ``first`` of them the first image, one more each next image."""
    turned = torch.empty_like(images)
    for number in range(N_ROTATIONS):
        turned[number::N_ROTATIONS] = torch.rot90(
            images[number::N_ROTATIONS], first + number, (-2, -1)
        )
    return turned


def _begin(layer: nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
