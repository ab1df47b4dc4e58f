"""What single stars tell of a cluster in its map: their brightness, number and colours.

The giants of old clusters are alike, so how bright they are says how far away they are, and how
much of the light is theirs how many stars give it (surface-brightness fluctuations: Tonry &
Schneider 1988, AJ 96, 807); their colours say how old and how rich in metals.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from melotte.systems.base import Observation
from melotte.systems.globular_clusters.photometry import map_fluxes

RANKS = (1, 3, 10, 30, 100, 300)
"""Of the sources, from the brightest on, whose fluxes are told."""
_LEVELS = (0.5, 0.9, 0.97, 0.99, 0.997, 0.999)
"""Quantiles of the pixels' fluxes."""
_SHARP_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
"""Quantiles of what is left of them where the surroundings are taken off."""
_FLUCTUATION_SIDES = (4, 8, 16)
"""Of the squares, px, within which fluxes vary."""
_SURROUNDINGS, _PEAK = 8, 5
"""Sides of the squares, px, whose means are taken off, and in which a source is the brightest."""
_DETECTED = 5.0
"""Standard deviations of the noise from which a source counts."""
_LEAST = 1e-6
_EACH = len(_FLUCTUATION_SIDES) + len(_LEVELS) + 1


def n_numbers(n_bands: int) -> int:
    """How many numbers :func:`star_numbers` gives."""
    colours = len(RANKS) - 1 if n_bands > 1 else 0
    return n_bands * _EACH + 2 * len(RANKS) + 2 + colours + len(_SHARP_LEVELS)


def star_numbers(observation: Observation) -> Tensor:
    """Fluctuations, quantiles of pixels, and fluxes and colours of the brightest sources.

    Parameters
    ----------
    observation : Observation
        With ``flux`` and ``noise``; a map without noise counts as of noise 1e-9.

    Returns
    -------
    Tensor, shape (n, n_numbers)
        In each band: log10 of the fluctuation flux (sum of squares about the means of boxes of 4,
        8 and 16 px, less the noise's own, over the flux), inverse hyperbolic sines of quantiles in
        units of the noise, log10 of the brightest pixel. In V: of the sources of rank 1, 3, ...,
        above their surroundings (means of boxes of 8 px, interpolated), log10 of the flux of their
        brightest pixel and its inverse hyperbolic sine in units of the noise; log10 of one more
        than are 5 sigma bright; log10 of the share of light of the brightest 30; quantiles above
        the surroundings. In V over the second band: log10 of the ratio of fluxes between ranks.
        A band without light gives the values of an empty map.
    """
    flux, noise = map_fluxes(observation)
    light = flux.nan_to_num(0.0)
    unit = noise.nan_to_num(1.0).clamp(min=1e-9)
    found = _pixel_numbers(light, unit)
    size = (int(light.shape[2]), int(light.shape[3]))
    boxes = functional.avg_pool2d(light, _SURROUNDINGS, ceil_mode=True)
    sharp = light - functional.interpolate(boxes, size, mode="bilinear")
    in_v, unit_v = sharp[:, 0], unit[:, :1]
    sources = torch.where(_is_peak(light[:, 0]) & (in_v > 0), in_v, 0.0).flatten(1)
    many = min(RANKS[-1], sources.shape[1])
    brightest, place = sources.topk(many, 1)
    ranks = [min(rank, many) - 1 for rank in RANKS]
    total = light[:, 0].sum((1, 2)).clamp(min=_LEAST)
    detected = (sources > _DETECTED * unit_v).sum(1).float()
    found += [
        torch.log10(brightest[:, ranks].clamp(min=_LEAST)),
        torch.asinh(brightest[:, ranks] / unit_v),
        torch.log10(1 + detected)[:, None],
        _log_ratio(brightest[:, :30].sum(1), total)[:, None],
        torch.asinh(_quantiles(in_v, _SHARP_LEVELS) / unit_v),
    ]
    if flux.shape[1] > 1:
        other = sharp[:, 1].flatten(1).gather(1, place) * (brightest > 0)
        steps = zip((0, *RANKS[1:-1]), RANKS[1:], strict=True)
        found += [
            _log_ratio(brightest[:, low:high].sum(1), other[:, low:high].sum(1))[:, None]
            for low, high in steps
        ]
    return torch.cat(found, 1)


def _pixel_numbers(light: Tensor, unit: Tensor) -> list[Tensor]:
    """Of each band: fluctuations, quantiles, brightest pixel; each (n, k n_bands)."""
    rows, columns = (
        side // _FLUCTUATION_SIDES[-1] * _FLUCTUATION_SIDES[-1] for side in light.shape[2:]
    )
    whole = light[..., :rows, :columns]
    total, squares = whole.sum((-2, -1)).clamp(min=_LEAST), whole.square().sum((-2, -1))
    found = []
    for side in _FLUCTUATION_SIDES:
        of_means = side**2 * functional.avg_pool2d(whole, side).square().sum((-2, -1))
        own = unit.square() * rows * columns * (1 - 1 / side**2)
        found.append(_log_ratio((squares - of_means - own).clamp(min=0), total))
    levels = torch.asinh(_quantiles(light, _LEVELS) / unit[..., None])
    return [*found, levels.flatten(1), torch.log10(light.amax((-2, -1)).clamp(min=_LEAST))]


def _is_peak(light: Tensor) -> Tensor:
    """Whether a pixel is the brightest of the square about it."""
    return light == _greatest_near(_greatest_near(light, 2), 1)


def _greatest_near(light: Tensor, axis: int) -> Tensor:
    """Of each pixel and its neighbours along an axis; many times as fast as pooling on a CPU."""
    found = light.clone()
    n = light.shape[axis]
    for step in range(1, _PEAK // 2 + 1):
        for to, of in ((0, step), (step, 0)):
            part = found.narrow(axis, to, n - step)
            torch.maximum(part, light.narrow(axis, of, n - step), out=part)
    return found


def _quantiles(light: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Quantiles of a fourth of the pixels, shape (..., n_levels)."""
    pixels = light[..., ::2, ::2].flatten(-2)
    if pixels.device.type == "cpu":
        # Twenty times as fast as torch's.
        pixels = torch.from_numpy(np.sort(pixels.numpy(), -1))
    else:
        pixels = pixels.sort(-1).values
    return pixels[..., [round(level * (pixels.shape[-1] - 1)) for level in levels]]


def _log_ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.log10(above.clamp(min=_LEAST) / below.clamp(min=_LEAST))
