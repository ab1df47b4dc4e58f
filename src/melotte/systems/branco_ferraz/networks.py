"""The seed's three networks: ANN, CNN and mixed data model.

Plain stacks in Keras's manner: ReLU between layers, weights drawn after Glorot & Bengio 2010,
biases zero, linear output neurons. Widths are settings, since the paper's figures that show them
are not part of its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from melotte.networks.point import SMALLEST_LOG_SCALE, PointPosterior
from melotte.systems.branco_ferraz.diagrams import N_COLOUR, N_MAGNITUDE, N_PIXELS
from melotte.systems.branco_ferraz.guesses import GUESSES
from melotte.systems.branco_ferraz.settings import AnnSettings, MdmSettings, ModelSettings

N_BINS = N_COLOUR * N_MAGNITUDE
SCALE_RATE = 10.0
"""How much faster than a weight a logarithmic residual scale moves under Adam."""
FIRST_LOG_SCALE = -1.5
IMAGES_AT_ONCE = 32
"""More fall out of a processor's cache between two convolutions."""


def inputs_of(settings: ModelSettings) -> tuple[str, ...]:
    """What a network reads, of ``histogram``, ``image`` and ``guesses``."""
    if isinstance(settings, AnnSettings):
        return ("histogram", "guesses")
    return ("image", "guesses") if isinstance(settings, MdmSettings) else ("image",)


class SeedNetwork(nn.Module):
    """Any of the three networks, with a posterior around its estimate.

    Parameters
    ----------
    settings : AnnSettings, CnnSettings or MdmSettings
    n_parameters : int
    """

    def __init__(self, settings: ModelSettings, n_parameters: int) -> None:
        super().__init__()
        self.reads = inputs_of(settings)
        joined = 0
        if "histogram" in self.reads:
            joined += N_BINS + len(GUESSES)
        if not isinstance(settings, AnnSettings):
            self.image = ImageBranch(settings.channels, settings.dense)
            joined += settings.dense
        if isinstance(settings, MdmSettings):
            self.guesses = _dense(len(GUESSES), settings.guess_hidden)
            joined += settings.guess_hidden[-1]
        hidden = settings.hidden if isinstance(settings, AnnSettings | MdmSettings) else ()
        self.hidden = _dense(joined, hidden)
        self.estimate = nn.Linear(hidden[-1] if hidden else joined, n_parameters)
        self.apply(_begin_like_keras)
        first = torch.full((n_parameters,), FIRST_LOG_SCALE / SCALE_RATE)
        self.slow_log_scale = nn.Parameter(first)

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Estimate and posterior of a batch.

        Parameters
        ----------
        inputs : mapping
            ``histogram`` (batch, 400), ``guesses`` (batch, 3), ``image`` (batch, 1, 180, 180): as
            far as the network reads them.

        Returns
        -------
        dict
            ``estimate`` (batch, n_parameters): the output neurons, which may leave the unit cube;
            ``posterior``: a point posterior about the estimate clamped to the cube, with one
            residual scale a parameter; ``embedding``: the last hidden layer.
        """
        parts = []
        if "histogram" in self.reads:
            parts += [inputs["histogram"], inputs["guesses"]]
        if "image" in self.reads:
            parts.append(self.image(inputs["image"]))
        if self.reads == ("image", "guesses"):
            parts.append(self.guesses(inputs["guesses"]))
        embedding = self.hidden(torch.cat(parts, -1))
        estimate = self.estimate(embedding).float()
        log_scale = (SCALE_RATE * self.slow_log_scale).clamp(min=SMALLEST_LOG_SCALE)
        scale = log_scale.exp().expand_as(estimate)
        posterior = PointPosterior(estimate.clamp(0, 1), scale, "mse")
        return {"posterior": posterior, "estimate": estimate, "embedding": embedding}


class ImageBranch(nn.Module):
    """Convolutions of 3 by 3 pixels, each with ReLU and pooling of 2 by 2, then a dense layer.

    Parameters
    ----------
    channels : sequence of int
    dense : int
    """

    def __init__(self, channels: Sequence[int], dense: int) -> None:
        super().__init__()
        widths = (1, *channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3) for n_in, n_out in pairwise(widths)
        )
        for convolution in self.convolutions:
            # This layout of memory halves the time on a CPU; the numbers are the same.
            convolution.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        size = N_PIXELS
        for _ in channels:
            size = (size - 2) // 2
        self.dense = nn.Sequential(nn.Linear(channels[-1] * size**2, dense), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        """Features (batch, dense) of images (batch, 1, 180, 180)."""
        parts = [self._convolved(part) for part in image.split(IMAGES_AT_ONCE)]
        return self.dense(torch.cat(parts).flatten(1))

    def _convolved(self, hidden: Tensor) -> Tensor:
        for convolution in self.convolutions:
            hidden = convolution(hidden).contiguous(memory_format=torch.channels_last)
            # The larger of four is the same before and after a ReLU, which is cheaper behind.
            hidden = torch.relu(nn.functional.max_pool2d(hidden, 2))
        return hidden


def _dense(n_in: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(n_in, width), nn.ReLU()]
        n_in = width
    return nn.Sequential(*layers)


def _begin_like_keras(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
