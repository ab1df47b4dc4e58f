"""What spoils pixels of a mosaic: saturated stars that bleed, remains of cosmic rays."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COSMIC_RAYS_PER_MEGAPIXEL = 25.0
"""Hits that the combination of a few exposures leaves in a band."""

_LONGEST_BLEED = 400


def bleed(rate: Tensor, ceiling: float) -> tuple[Tensor, Tensor]:
    """Move what is above a ceiling along the columns until it fits.

    Parameters
    ----------
    rate : Tensor, shape (n_rows, n_columns), counts/s
    ceiling : float, counts/s
        Full well by the time of one exposure.

    Returns
    -------
    rate : Tensor, shape (n_rows, n_columns)
        Light is conserved, but for what runs over the edges or farther than 400 pixels.
    full : BoolTensor, shape (n_rows, n_columns)
    """
    columns = torch.nonzero((rate > ceiling).any(0))[:, 0]
    if not len(columns):
        return rate, torch.zeros_like(rate, dtype=torch.bool)
    spread = rate[:, columns].double()
    for _ in range(_LONGEST_BLEED):
        excess = (spread - ceiling).clamp(min=0)
        if not bool((excess > 1e-3 * ceiling).any()):
            break
        spread -= excess
        spread[1:] += excess[:-1] / 2
        spread[:-1] += excess[1:] / 2
    result = rate.clone()
    result[:, columns] = spread.clamp(max=ceiling).to(rate.dtype)
    return result, result >= 0.999 * ceiling


def cosmic_ray_residuals(
    size: int, exposure: float, generator: torch.Generator, density: float
) -> Tensor:
    """What the rejection of cosmic rays has missed.

    Parameters
    ----------
    size : int, pixels
    exposure : float, s
    generator : torch.Generator, on the CPU
    density : float, hits per million pixels

    Returns
    -------
    Tensor, shape (size, size), electrons/s
        Tracks 1 to 6 pixels long with 60 to 2,000 electrons, blurred by drizzling.
    """
    image = torch.zeros(size, size)
    number = int(torch.poisson(torch.tensor(density * size**2 / 1e6), generator=generator))
    uniform = torch.rand(number, 5, generator=generator)
    for row, column, angle, length, charge in uniform.tolist():
        steps = 1 + int(5 * length**3)
        part = charge * math.log(2000 / 60) + math.log(60)
        place = torch.arange(steps) - (steps - 1) / 2
        y = (row * size + place * math.sin(math.pi * angle)).clamp(0, size - 1.01)
        x = (column * size + place * math.cos(math.pi * angle)).clamp(0, size - 1.01)
        electrons = math.exp(part) / exposure / steps
        for down in (0, 1):
            for right in (0, 1):
                weight = (1 - (y - y.floor() - down).abs()) * (1 - (x - x.floor() - right).abs())
                image.index_put_(
                    ((y.long() + down), (x.long() + right)), electrons * weight, accumulate=True
                )
    return image
