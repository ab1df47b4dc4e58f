"""Noise of a drizzled mosaic: photons and read-out, correlated from pixel to pixel."""

from __future__ import annotations

import torch
from torch import Tensor


def drizzle_correlation(drop: float) -> Tensor:
    """Correlation of noise with distance along an axis, for dithers that cover all phases.

    Parameters
    ----------
    drop : float, > 0
        Side of the shrunken input pixel in output pixels.

    Returns
    -------
    Tensor of float64, shape (n_lags,)
        Covariance at 0, 1, 2, ... pixels in units of the variance that uncorrelated pixels of the
        same total noise have; value 0 plus twice the others is 1. For drops up to a pixel the
        first is 1 - drop / 3.

    References
    ----------
    Fruchter & Hook 2002, PASP 114, 144, Sect. 7: its square is 1 / R of their Eqs. 9 and 10,
    squared.
    """
    n_lags = int(drop + 1) + 2
    place = torch.linspace(-drop, drop, 4001, dtype=torch.float64)
    overlap = drop - place.abs()
    lags = torch.arange(n_lags, dtype=torch.float64)[:, None]
    pixel = (1 - (place - lags).abs()).clamp(min=0)
    covariance = torch.trapezoid(overlap * pixel, place, dim=1) / drop**2
    return covariance / (covariance[0] + 2 * covariance[1:].sum())


def correlate(noise: Tensor, drop: float) -> Tensor:
    """Give white noise the correlation of drizzled pixels; its sum over wide areas stays.

    Parameters
    ----------
    noise : Tensor, shape (..., n_rows, n_columns)
    drop : float, output pixels
    """
    covariance = drizzle_correlation(drop)
    rows, columns = noise.shape[-2:]
    lags = torch.arange(1, len(covariance), dtype=torch.float64)

    def amplitude(frequency: Tensor) -> Tensor:
        waves = torch.cos(2 * torch.pi * frequency.double()[:, None] * lags)
        power = covariance[0] + 2 * (waves * covariance[1:]).sum(1)
        return torch.sqrt(power.clamp(min=0)).float()

    filtered = torch.fft.rfft2(noise)
    filtered *= amplitude(torch.fft.fftfreq(rows))[:, None]
    filtered *= amplitude(torch.fft.rfftfreq(columns))
    return torch.fft.irfft2(filtered, s=(rows, columns))


def mosaic_noise(
    rate: Tensor, exposure: float, read_noise: float, drop: float, generator: torch.Generator
) -> Tensor:
    """One draw of the noise of a mosaic.

    Parameters
    ----------
    rate : Tensor, shape (n_rows, n_columns), electrons/s
        Everything that falls on a pixel, sky included; negative values count as 0.
    exposure : float, s
    read_noise : float, electrons
        Of all exposures of a pixel together.
    drop : float
        Side of the shrunken input pixel in output pixels.
    generator : torch.Generator, on the CPU

    Returns
    -------
    Tensor, shape of ``rate``, electrons/s, mean 0
    """
    expected = (rate * exposure).clamp(min=0)
    noise = torch.poisson(expected, generator=generator) - expected
    if read_noise:
        noise += read_noise * torch.randn(noise.shape, generator=generator)
    return correlate(noise, drop) / exposure
