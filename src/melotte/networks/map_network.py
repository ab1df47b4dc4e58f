"""Maps and their circumstances to maps with errors, and to features of a posterior.

A first convolution of stride 4 leaves residual stages at a quarter, an eighth, ... of the map's
size, and what is predicted there is interpolated by cubic splines. It is smooth over some pixels,
so that little is lost (with a Gaussian of 4 pixels, one per cent), a stage costs a sixteenth, and
no pattern of pixels, or of bins in the input, is printed on the output. For sharper maps, channels
of the finest stage become 2 by 2 or 4 by 4 places (Shi et al. 2016, Eq. 4). What the whole map says
comes back to every pixel: the coarsest stage is pooled, and sets a scale and a shift of each
channel on the way up, as the conditions do on the way down (Perez et al. 2018).

Pixels are not told how far they are from the brightest one. That is a star more often than the
centre, and stars are exchangeable: the coarse stages find the centre from all light.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.networks.image_encoder import ResidualBlock, residual_stages
from melotte.networks.map_padding import padded
from melotte.networks.map_posteriors import MapPosterior

Likelihood = Literal["gaussian", "student_t"]
STRIDE = 4
"""Pixels, of the first convolution."""
SMALLEST_SIZE = 16
"""Pixels a side that a map needs."""
LOG_SCALES = (-7.0, 7.0)
"""Natural logarithm of the least and the greatest scale of a pixel, in units of the target."""
MAPS_AT_ONCE = 16
"""In evaluation on a CPU: activations of more fall out of its caches between two layers."""
_TOLD = 64
_GATHERED = 128


class MapNetwork(nn.Module):
    """Residual encoder and decoder of maps, told of their circumstances.

    Parameters
    ----------
    n_channels, n_conditions, n_features : int, > 0
        Channels of the input, conditions, features for a posterior head.
    n_maps : int, > 0
        Predicted maps.
    widths : sequence of int
        Channels of each stage: the first at a quarter of the map's size, each next at half of the
        one before.
    blocks : sequence of int
        Residual blocks of each stage on the way down; there is one on the way up.
    likelihood : {"gaussian", "student_t"}
        Of a pixel.
    dropout : float
        Before the features.
    detail : {1, 2, 4}
        Predicted places along a side of the first stage's: 1 for maps that are smooth over 4
        pixels or more, 2 over 2, 4 for any.

    Raises
    ------
    MelotteValueError
        When a number is not positive, stages do not pair up, or the likelihood is not known.
    """

    def __init__(
        self,
        n_channels: int,
        n_conditions: int,
        n_features: int = 128,
        n_maps: int = 1,
        widths: Sequence[int] = (32, 64, 128, 128),
        blocks: Sequence[int] = (1, 2, 2, 2),
        likelihood: Likelihood = "gaussian",
        dropout: float = 0.0,
        detail: int = 1,
    ) -> None:
        super().__init__()
        if detail not in (1, 2, STRIDE):
            raise MelotteValueError(f"detail {detail}: 1, 2 or {STRIDE} are allowed")
        numbers = [n_channels, n_conditions, n_features, n_maps, *widths, *blocks]
        if len(widths) != len(blocks) or not widths or min(numbers) < 1:
            raise MelotteValueError(
                f"widths {list(widths)} and blocks {list(blocks)}: one of each a stage, all "
                f"numbers of channels, conditions, features and maps above 0"
            )
        if likelihood not in ("gaussian", "student_t"):
            raise MelotteValueError(
                f"likelihood {likelihood!r} is unknown; known: gaussian, student_t"
            )
        self.n_channels, self.n_maps, self.detail = n_channels, n_maps, detail
        self.told = nn.Sequential(nn.Linear(n_conditions, _TOLD), nn.GELU())
        self.stem = nn.Conv2d(n_channels, widths[0], 2 * STRIDE, STRIDE, STRIDE // 2)
        self.down = residual_stages(widths, blocks)
        self.down_modulations = nn.ModuleList(ChannelModulation(_TOLD, width) for width in widths)

        # Alone: beside large activations of the map, what is told would count for nothing.
        self.pooled = nn.LayerNorm(2 * widths[-1])
        self.gather = nn.Sequential(
            nn.Linear(2 * widths[-1] + _TOLD, _GATHERED),
            nn.GELU(),
        )
        self.features = nn.Sequential(
            nn.Linear(_GATHERED, n_features),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(n_features, n_features),
            nn.GELU(),
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in pairs)
        self.up = nn.ModuleList(ResidualBlock(fine, fine, 1) for _, fine in pairs)
        self.up_modulations = nn.ModuleList(ChannelModulation(_GATHERED, fine) for _, fine in pairs)
        self.predict = nn.Conv2d(widths[0], 2 * n_maps * detail**2, 3, 1, 1)
        self.degrees = None
        if likelihood == "student_t":
            self.degrees = nn.Parameter(torch.full((n_maps,), 4.0))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, maps: Tensor, conditions: Tensor) -> tuple[MapPosterior, Tensor]:
        """Predicted maps and features of a batch.

        Parameters
        ----------
        maps : Tensor, shape (batch, n_channels, rows, columns)
            Finite, of any size from 16 by 16 pixels. Sizes that are no multiples of 4 are padded
            with the last row and column, and the padding is cut off the output.
        conditions : Tensor, shape (batch, n_conditions)

        Returns
        -------
        MapPosterior
            Of ``n_maps`` maps of the size of the input, in single precision.
        Tensor, shape (batch, n_features)

        Raises
        ------
        MelotteValueError
            When maps have another number of channels or are too small.
        """
        if maps.ndim != 4 or maps.shape[1] != self.n_channels:
            raise MelotteValueError(
                f"maps need the shape (batch, {self.n_channels}, rows, columns), found "
                f"{tuple(maps.shape)}"
            )
        if min(maps.shape[-2:]) < SMALLEST_SIZE:
            raise MelotteValueError(
                f"maps of {maps.shape[-2]} x {maps.shape[-1]} pixels are too small: at least "
                f"{SMALLEST_SIZE} are needed along each axis"
            )
        at_once = len(maps)
        if not self.training and maps.device.type == "cpu":
            at_once = MAPS_AT_ONCE
        parts = [
            self._predict(*part)
            for part in zip(
                maps.split(max(1, at_once)), conditions.split(max(1, at_once)), strict=True
            )
        ]
        raw, features = (
            column[0] if len(column) == 1 else torch.cat(column)
            for column in zip(*parts, strict=True)
        )
        return self._posterior(raw), features

    def _predict(self, maps: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = maps.shape[-2:]
        maps = padded(maps, STRIDE).contiguous(memory_format=torch.channels_last)
        told = self.told(conditions)
        state = self.stem(maps)
        skips = []
        for stage, modulation in zip(self.down, self.down_modulations, strict=True):
            state = modulation(stage(state), told)
            skips.append(state)
        pooled = self.pooled(torch.cat([state.mean((2, 3)), state.amax((2, 3))], 1))
        gathered = self.gather(torch.cat([pooled, told.to(pooled)], 1))
        levels = zip(self.rise, self.up, self.up_modulations, skips[-2::-1], strict=True)
        for rise, block, modulation, skip in levels:
            risen = functional.interpolate(rise(state), scale_factor=2.0, mode="nearest")
            # An odd size was halved upwards.
            risen = risen[..., : skip.shape[-2], : skip.shape[-1]]
            state = block(modulation(skip + risen, gathered))
        raw = functional.pixel_shuffle(self.predict(state).float(), self.detail)
        if self.detail < STRIDE:
            raw = interpolated(raw, STRIDE // self.detail)
        return raw[..., :rows, :columns].contiguous(), self.features(gathered)

    def _posterior(self, raw: Tensor) -> MapPosterior:
        mean, log_scale = raw.float().chunk(2, 1)
        degrees = None if self.degrees is None else 2 + functional.softplus(self.degrees)
        return MapPosterior(mean, log_scale.clamp(*LOG_SCALES).exp(), degrees)


def interpolated(maps: Tensor, factor: int) -> Tensor:
    """Maps (..., rows, columns) on a grid that is ``factor`` times as fine, by cubic splines.

    As :func:`torch.nn.functional.interpolate` with ``bicubic``, by a matrix along each axis: many
    times as fast on a CPU.
    """
    down, across = (_spline_matrix(side, factor).to(maps) for side in maps.shape[-2:])
    return down @ maps @ across.mT


@lru_cache(maxsize=32)
def _spline_matrix(side: int, factor: int) -> Tensor:
    """What ``side`` values give at each of ``factor * side`` places."""
    # Kept for trainings, too, which cannot use a tensor that an inference has made.
    with torch.inference_mode(False):
        places = torch.eye(side)[None, :, :, None].expand(1, side, side, 4)
        fine = functional.interpolate(places, (factor * side, 4), mode="bicubic")
        return fine[0, :, :, 0].T.contiguous()


class ChannelModulation(nn.Module):
    """A scale and a shift of each channel, set by a vector; at first they change nothing.

    Parameters
    ----------
    n_told, n_channels : int

    References
    ----------
    Perez et al. 2018, AAAI 32, Eqs. 1-2.
    """

    def __init__(self, n_told: int, n_channels: int) -> None:
        super().__init__()
        self.setting = nn.Linear(n_told, 2 * n_channels)
        nn.init.zeros_(self.setting.weight)
        nn.init.zeros_(self.setting.bias)

    def forward(self, state: Tensor, told: Tensor) -> Tensor:
        """Maps (batch, n_channels, rows, columns), as ``told`` (batch, n_told) sets them."""
        scale, shift = self.setting(told).to(state)[..., None, None].chunk(2, 1)
        return torch.addcmul(shift, state, 1 + scale)
